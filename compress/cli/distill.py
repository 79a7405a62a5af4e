"""`compress distill`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import click

from compress.cli import common
from compress.cli.options import SectionCommand, given, option, settings_options
from compress.cli.task_options import required_task, task_options
from compress.core import console
from compress.core.errors import UsageError
from compress.settings import DistillSettings
from compress.settings.base import INPUT
from compress.stage import STUDENTS

if TYPE_CHECKING:
    from compress.results import DistillPlan


class DistillCommand(SectionCommand):
    """`distill`, which takes its models as options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; models without options get the command line that was meant."""
        try:
            return super().parse_args(ctx, list(args))
        except click.MissingParameter as error:
            models = list(itertools.takewhile(lambda argument: not argument.startswith("-"), args))
            if not models:
                raise
            options = " ".join(f"--{role} {model}" for role, model in zip(("teacher", "student"), models, strict=False))
            raise UsageError("the teacher and the student are options", f"compress distill {options}") from error


@click.command("distill", cls=DistillCommand, short_help="Train a small student on its teacher's outputs.")
@option(
    "--teacher",
    section=INPUT,
    required=True,
    multiple=True,
    metavar="MODEL",
    help="The fine-tuned teacher. Several: repeat the option; their logits are averaged.",
)
@option(
    "--student",
    section=INPUT,
    required=True,
    metavar="MODEL|SPEC",
    help="A model (such as a pruned checkpoint); a SPEC such as layers=3, layers=4,hidden=312,heads=12,ffn=1200,vocab=10000 "
    f"lstm=150 (a BiLSTM) or static=256 (mean embeddings of tokens and bigrams, for whole texts); or a preset: {', '.join(STUDENTS)}.",
)
@common.optional_output
@task_options
@settings_options(DistillSettings)
@option("--explain", section=INPUT, is_flag=True, help="Print which layers are matched, with weights and shapes; train nothing.")
@common.seed_option
@common.overwrite_option
def distill_command(
    teacher: tuple[str, ...], student: str, output: str | None, explain: bool, seed: int, overwrite: bool, **values: object
) -> None:
    """Train a small student on its teacher's outputs.

    The loss combines the teacher's softened logits, its hidden states (or attention, by --method) and the labels. The
    teacher's outputs are computed once and cached.

    \b
    Examples:
      compress distill --teacher teacher --student slim --task bbc-news -o student
      compress distill --teacher teacher --student layers=3 --task sst2 --epochs 5 -o student
      compress distill --teacher teacher --student tinybert-4 --task sst2 --method logits --method relations -o student
      compress distill --teacher teacher --student layers=3 --task sst2 --method hidden --match "hidden:0-0,6-3" --explain
    """
    from compress import api

    task = required_task("distill", values)
    settings = given(DistillSettings, values)
    teachers = teacher[0] if len(teacher) == 1 else list(teacher)
    if explain:
        document = api.plan_distill(teachers, student, task, seed=common.given_seed(seed), **settings)
        console.result(document, lambda: _show(document))
        return
    if output is None:
        raise UsageError("no output folder was given", "add -o DIR, or --explain to see which layers would be matched")
    common.show_result(api.distill(teachers, student, task, output, seed=common.given_seed(seed), overwrite=overwrite, **settings))


def _shape(shape: dict[str, Any]) -> str:
    """Return a model's shape as text."""
    if "static" in shape:
        sizes = shape["static"]
        tables = f"embedding size {sizes['embedding']}, bigrams {sizes['bigram']} wide in {sizes['buckets']:,} buckets"
        return f"static model with {tables}, {sizes['ffn']} neurons"
    if "lstm" not in shape:
        return f"{len(shape['layers'])} layers, hidden size {shape['hidden']}, head size {shape['head_size']}"
    sizes = shape["lstm"]
    return f"BiLSTM with 2 x {sizes['units']} units, embedding size {sizes['embedding']}, {sizes['ffn']} neurons"


def _show(document: DistillPlan) -> None:
    """Print which layers are matched."""
    for role in ("teacher", "student"):
        print(f"{role}: {_shape(document[role])}")
    teachers = document.get("teachers", 1)
    if teachers > 1:
        print(f"teachers: {teachers}; their logits are averaged; layers are matched with the first one")
    rows = [
        [row["method"], "-" if row["weight"] is None else f"{row['weight']:.4g}", row["teacher"], row["student"], row["projection"] or "-"]
        for row in document["matches"]
    ]
    console.table(["method", "weight", "teacher", "student", "projection"], rows)
    for stage in document["stages"]:
        which = {"all": "all losses", "layers": "layer losses only", "outputs": "teacher's logits and labels only"}
        span = document["budget"] or f"{stage['epochs'] or '3 to 10'} epochs"
        print(f"{which[str(stage['losses'])]}: {span}, temperature {document['temperature']:g}")
