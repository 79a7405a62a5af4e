"""`compress distill`."""

from __future__ import annotations

from typing import Any

import click

from compress.cli import common, options
from compress.settings import DistillSettings


@click.command("distill", short_help="Train a small student to answer as its teacher does.")
@click.option("--teacher", required=True, help="The fine-tuned MODEL to learn from.")
@click.option("--student", required=True, help="A MODEL (a pruned checkpoint, say), or layers=K: K of the teacher's layers.")
@common.output_option
@options.task_options(required=True)
@options.settings_options(DistillSettings)
@common.seed_option
@common.overwrite_option
def command(teacher: str, student: str, output: str, seed: int, overwrite: bool, **values: Any) -> None:
    """Train a small student to answer as its teacher does.

    The loss joins the teacher's softened logits, its hidden states, and the labels. What the teacher says is computed
    once and cached.

    \b
    Examples:
      compress distill --teacher teacher --student slim --task bbc-news -o student
      compress distill --teacher teacher --student layers=3 --task sst2 --epochs 5 -o student
    """
    from compress import api

    task = options.task_of(values)
    settings = options.given(DistillSettings, values)
    common.show_made(api.distill(teacher, student, task, output, seed=seed, overwrite=overwrite, **settings))
