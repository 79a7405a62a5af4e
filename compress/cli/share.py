"""`compress share`."""

from __future__ import annotations

from typing import Any

import click

from compress.cli import common, options
from compress.settings import ShareSettings


@click.command("share", short_help="Let groups of layers share one copy of weights.")
@click.argument("model")
@common.output_option
@options.task_options(required=True)
@options.settings_options(ShareSettings)
@common.seed_option
@common.overwrite_option
def command(model: str, output: str, seed: int, overwrite: bool, **values: Any) -> None:
    """Let groups of layers share one copy of weights.

    This makes files smaller and nothing faster, and it needs distill afterwards.

    \b
    Examples:
      compress share teacher --task bbc-news --layers 3 -o shared
      compress share teacher --task bbc-news --groups 0-1,2-3,4-5 --how mean -o shared
      compress distill --teacher teacher --student shared --task bbc-news --epochs 3 -o student
    """
    from compress import api

    task = options.task_of(values)
    common.show_made(api.share(model, task, output, seed=seed, overwrite=overwrite, **options.given(ShareSettings, values)))
