"""`compress quantize`."""

from __future__ import annotations

from typing import Any

import click

from compress.cli import common, options
from compress.settings import QuantizeSettings


@click.command("quantize", short_help="Make an int8 ONNX artifact.")
@click.argument("model")
@common.output_option
@options.task_options(required=False)
@options.settings_options(QuantizeSettings)
@common.overwrite_option
def command(model: str, output: str, overwrite: bool, **values: Any) -> None:
    """Make an int8 ONNX artifact.

    MODEL is a checkpoint or an fp32 ONNX artifact. With a task, both forms are evaluated on its validation split, and
    --max-drop holds the int8 form to a budget.

    \b
    Examples:
      compress quantize graph --task bbc-news -o int8
      compress quantize student --task sst2 --max-drop 0.5 -o int8
    """
    from compress import api

    task = options.task_of(values)
    common.show_made(api.quantize(model, task, output, overwrite=overwrite, **options.given(QuantizeSettings, values)))
