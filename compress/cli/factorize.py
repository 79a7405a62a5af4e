"""`compress factorize`."""

from __future__ import annotations

import click

from compress.cli import common
from compress.cli.options import SectionCommand, given, settings_options
from compress.cli.task_options import required_task, task_options
from compress.settings import FactorizeSettings


@click.command("factorize", cls=SectionCommand, short_help="Replace linears and token embeddings by low-rank factors.")
@click.argument("model")
@common.output_option
@task_options
@settings_options(FactorizeSettings)
@common.seed_option
@common.overwrite_option
def factorize_command(model: str, output: str, seed: int, overwrite: bool, **values: object) -> None:
    """Replace linears and token embeddings by low-rank factors.

    Chooses the ranks of all linears together, so that they meet the target and change the logits least. No training; follow
    with distill if accuracy drops too much.

    \b
    Examples:
      compress factorize teacher --task bbc-news --target-flops 0.75 -o small
      compress factorize teacher --task bbc-news --embedding-rank 128 -o small
      compress distill --teacher teacher --student small --task bbc-news -o student
    """
    from compress import api

    task = required_task("factorize", values)
    common.show_result(api.factorize(model, task, output, seed=seed, overwrite=overwrite, **given(FactorizeSettings, values)))
