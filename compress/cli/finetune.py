"""`compress finetune`."""

from __future__ import annotations

import click

from compress.cli import common
from compress.cli.options import SectionCommand, given, settings_options
from compress.cli.task_options import required_task, task_options
from compress.settings import FinetuneSettings


@click.command("finetune", cls=SectionCommand, short_help="Train a pre-trained encoder on a task.")
@click.argument("model")
@common.output_option
@task_options
@settings_options(FinetuneSettings)
@common.seed_option
@common.overwrite_option
def finetune_command(model: str, output: str, seed: int, overwrite: bool, **values: object) -> None:
    """Train a pre-trained encoder on a task.

    Keeps the epoch with the best validation score.

    \b
    Examples:
      compress finetune builtin:minilm-l6 --task bbc-news -o teacher
      compress finetune google-bert/bert-base-uncased --task sst2 --epochs 3 --lr 2e-5 -o teacher
      compress finetune google-bert/bert-large-uncased --task sst2 --mode lora -o teacher
      compress finetune builtin:minilm-l6 --train a.csv --validation b.csv --text sentence --label label -o teacher
    """
    from compress import api

    task = required_task("finetune", values)
    settings = given(FinetuneSettings, values)
    common.show_result(api.finetune(model, task, output, seed=common.given_seed(seed), overwrite=overwrite, **settings))
