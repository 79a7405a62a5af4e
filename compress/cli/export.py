"""`compress export`."""

from __future__ import annotations

from typing import Any

import click

from compress.cli import common, options
from compress.settings import ExportSettings


@click.command("export", short_help="Write a verified ONNX artifact.")
@click.argument("model")
@common.output_option
@options.task_options(required=False)
@options.settings_options(ExportSettings)
@common.overwrite_option
def command(model: str, output: str, overwrite: bool, **values: Any) -> None:
    """Write a verified ONNX artifact.

    The graph is compared with PyTorch on real texts (the task's, or built-in samples): single and batched, short and
    long, with mixed padding. Beyond the tolerance nothing is written. --tune times forms and options on this machine and keeps
    the fastest; --runtime auto times OpenVINO, too.

    \b
    Examples:
      compress export student -o graph
      compress export student --task bbc-news -o graph
      compress export student --tune --batch-size 1 8 --seq-len 32 128 -o graph
      compress export student --runtime auto -o graph
    """
    from compress import api

    task = options.task_of(values)
    common.show_made(api.export(model, output, task, overwrite=overwrite, **options.given(ExportSettings, values)))
