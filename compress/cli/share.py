"""`compress share`."""

from __future__ import annotations

import click

from compress.cli import common
from compress.cli.options import SectionCommand, given, settings_options
from compress.cli.task_options import required_task, task_options
from compress.settings import ShareSettings


@click.command("share", cls=SectionCommand, short_help="Let groups of layers share one copy of the weights.")
@click.argument("model")
@common.output_option
@task_options
@settings_options(ShareSettings)
@common.seed_option
@common.overwrite_option
def share_command(model: str, output: str, seed: int, overwrite: bool, **values: object) -> None:
    """Let groups of layers share one copy of the weights.

    Makes the file smaller, not the model faster. Recover the accuracy with distill afterwards.

    \b
    Examples:
      compress share teacher --task bbc-news --layers 3 -o shared
      compress share teacher --task bbc-news --groups 0-1,2-3,4-5 --how mean -o shared
      compress distill --teacher teacher --student shared --task bbc-news --epochs 3 -o student
    """
    from compress import api

    task = required_task("share", values)
    common.show_result(api.share(model, task, output, seed=seed, overwrite=overwrite, **given(ShareSettings, values)))
