"""`compress distill`."""

from __future__ import annotations

from typing import Any

import click

from compress.cli import common, options
from compress.core import console
from compress.settings import DistillSettings
from compress.stage import STUDENTS


@click.command("distill", short_help="Train a small student to answer as its teacher does.")
@click.option(
    "--teacher", required=True, multiple=True, help="The fine-tuned MODEL to learn from. Several: repeat it; logits are averaged."
)
@click.option(
    "--student",
    required=True,
    help=f"A MODEL (a pruned checkpoint, say), a SPEC such as layers=3, layers=4,hidden=312,heads=12,ffn=1200,vocab=10000 "
    f"or lstm=150 (a BiLSTM), or the name of one: {', '.join(STUDENTS)}.",
)
@click.option("-o", "--output", type=click.Path(), help="Folder to write; it appears whole or not at all.")
@options.task_options(required=True)
@options.settings_options(DistillSettings)
@click.option("--explain", is_flag=True, help="Print what is matched with what, with weights and shapes; train nothing.")
@common.seed_option
@common.overwrite_option
def command(teacher: tuple[str, ...], student: str, output: str | None, explain: bool, seed: int, overwrite: bool, **values: Any) -> None:
    """Train a small student to answer as its teacher does.

    The loss joins the teacher's softened logits, what goes on inside it (hidden states by default), and the labels. What
    the teacher says is computed once and cached.

    \b
    Examples:
      compress distill --teacher teacher --student slim --task bbc-news -o student
      compress distill --teacher teacher --student layers=3 --task sst2 --epochs 5 -o student
      compress distill --teacher teacher --student tinybert-4 --task sst2 --method logits --method relations -o student
      compress distill --teacher teacher --student layers=3 --task sst2 --method hidden --match "hidden:0-0,6-3" --explain
    """
    from compress import api
    from compress.core.errors import UsageError

    task = options.task_of(values)
    settings = options.given(DistillSettings, values)
    teachers = teacher[0] if len(teacher) == 1 else list(teacher)
    if explain:
        document = api.plan_distill(teachers, student, task, seed=common.given_seed(seed), **settings)
        console.result(document, lambda: _show(document))
        return
    if output is None:
        raise UsageError("the folder to write is missing", "add -o DIR, or --explain to see what would be matched")
    common.show_made(api.distill(teachers, student, task, output, seed=common.given_seed(seed), overwrite=overwrite, **settings))


def _shape(shape: dict[str, Any]) -> str:
    """Write a model's shape in words."""
    if "lstm" not in shape:
        return f"{len(shape['layers'])} layers, {shape['hidden']} wide, heads of {shape['head_size']}"
    sizes = shape["lstm"]
    return f"BiLSTM of 2 x {sizes['units']} units, embeddings {sizes['embedding']} wide, {sizes['ffn']} neurons"


def _show(document: dict[str, Any]) -> None:
    """Print the table of matches."""
    for role in ("teacher", "student"):
        print(f"{role}: {_shape(document[role])}")
    if document["teachers"] > 1:
        print(f"teachers: {document['teachers']}; the mean of their logits, and layers of the first one")
    rows = [
        [row["method"], "-" if row["weight"] is None else f"{row['weight']:.4g}", row["teacher"], row["student"], row["projection"] or "-"]
        for row in document["matches"]
    ]
    console.table(["method", "weight", "teacher", "student", "projection"], rows)
    for stage in document["stages"]:
        which = {"all": "all losses", "layers": "the losses of layers alone", "outputs": "the teacher's answers and the labels alone"}
        span = document["budget"] or f"{stage['epochs'] or '3 to 10'} epochs"
        print(f"{which[stage['losses']]}: {span}, temperature {document['temperature']:g}")
