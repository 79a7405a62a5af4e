"""`compress factorize`."""

from __future__ import annotations

from typing import Any

import click

from compress.cli import common, options
from compress.settings import FactorizeSettings


@click.command("factorize", short_help="Replace linears and word embeddings by low-rank factors.")
@click.argument("model")
@common.output_option
@options.task_options(required=True)
@options.settings_options(FactorizeSettings)
@common.seed_option
@common.overwrite_option
def command(model: str, output: str, seed: int, overwrite: bool, **values: Any) -> None:
    """Replace linears and word embeddings by low-rank factors.

    Ranks are chosen for all linears together, so that a budget is kept and the answers change least; no training. Follow
    with distill where that loses too much.

    \b
    Examples:
      compress factorize teacher --task bbc-news --target-flops 0.75 -o small
      compress factorize teacher --task bbc-news --embedding-rank 128 -o small
      compress distill --teacher teacher --student small --task bbc-news -o student
    """
    from compress import api

    task = options.task_of(values)
    common.show_made(api.factorize(model, task, output, seed=seed, overwrite=overwrite, **options.given(FactorizeSettings, values)))
