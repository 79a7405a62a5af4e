"""`compress quantize`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from compress.cli import common
from compress.cli.options import SectionCommand, given, settings_options
from compress.cli.task_options import task_of, task_options
from compress.core import console
from compress.settings import QuantizeSettings

if TYPE_CHECKING:
    from compress.results.graphs import MatmulError


@click.command("quantize", cls=SectionCommand, short_help="Write an int8 ONNX artifact (or int4, fp16, bf16).")
@click.argument("model")
@common.output_option
@task_options
@settings_options(QuantizeSettings)
@common.overwrite_option
def quantize_command(model: str, output: str, overwrite: bool, **values: object) -> None:
    """Write an int8 ONNX artifact (or int4, fp16, bf16).

    MODEL is a checkpoint or an fp32 ONNX artifact. With a task, it writes the fastest int8 graph that keeps the accuracy, with
    the most sensitive matmuls in float if necessary; --max-drop sets an accuracy budget.

    \b
    Examples:
      compress quantize graph --task bbc-news -o int8
      compress quantize student --task sst2 --max-drop 0.5 -o int8
      compress quantize graph --method static --unlabeled texts.txt --report -o int8
      compress quantize graph --task sst2 --method int4 -o int4
    """
    from compress import api

    task = task_of(values)
    document = api.quantize(model, task, output, overwrite=overwrite, **given(QuantizeSettings, values))
    if "explain" in document and not console.is_json():
        _show_matmuls(document["explain"], document["precision"])
    common.show_result(document)


def _show_matmuls(entries: Sequence[MatmulError], precision: str) -> None:
    """Print each matmul's error, input range and share of clipped values."""
    rows = []
    for entry in entries:
        input_range = ["-", "-"]
        if entry["range"] is not None and entry["saturated"] is not None:
            low, high = entry["range"]
            input_range = [f"{low:.3g} to {high:.3g}", f"{100 * entry['saturated']:.3f}"]
        rows.append([entry["matmul"], "float" if entry["float"] else precision, f"{100 * entry['error']:.2f}", *input_range])
    console.table(["matmul", "precision", "error %", "input range", "clipped %"], rows)
