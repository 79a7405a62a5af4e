"""`compress export`."""

from __future__ import annotations

import click

from compress.cli import common
from compress.cli.options import SectionCommand, given, settings_options
from compress.cli.task_options import task_of, task_options
from compress.settings import ExportSettings


@click.command("export", cls=SectionCommand, short_help="Write a verified ONNX artifact.")
@click.argument("model")
@common.output_option
@task_options
@settings_options(ExportSettings)
@common.overwrite_option
def export_command(model: str, output: str, overwrite: bool, **values: object) -> None:
    """Write a verified ONNX artifact.

    The graph is compared with PyTorch on real texts (the task's, or built-in samples): single and batched, short and long,
    with mixed padding. Nothing is written if the logits differ by more than the tolerance. The graph is fp32; 'compress
    quantize' converts it to int8, int4, fp16 or bf16. --tune times variants of the graph and runtime options on this machine and
    keeps the fastest; --runtime auto times OpenVINO as well. --layout puts the graph where another client looks for it.

    \b
    Examples:
      compress export student -o graph
      compress export student --task bbc-news -o graph
      compress export student --tune --batch-size 1 8 --seq-len 32 128 -o graph
      compress export student --runtime auto -o graph
      compress export int8 --layout transformers.js -o web
    """
    from compress import api

    task = task_of(values)
    common.show_result(api.export(model, output, task, overwrite=overwrite, **given(ExportSettings, values)))
