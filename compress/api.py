"""The Python API: every verb as a function, by the same path as the command line.

    import compress

    compress.finetune("builtin:minilm-l6", task="bbc-news", output="teacher", epochs=3)
    compress.prune("teacher", task="bbc-news", output="slim", target_flops=0.5)

Each function returns the stage's manifest as a dictionary (`output`, `metrics`, `seconds`, …) and raises a
`compress.core.errors.CompressError` whose `exit_code` is that of the command line.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compress.core.errors import UsageError
from compress.core.validation import validate
from compress.data import resolve
from compress.models.reference import LEGACY
from compress.recipe import load as loading
from compress.recipe.check import check
from compress.recipe.run import run_recipe
from compress.recipe.schema import MODEL, Recipe
from compress.recipe.single import plan_single, run_single
from compress.recipe.verbs import VERBS
from compress.stage import ERRORS_FILE, STUDENTS, is_spec

Reference = str | Path
TaskLike = str | dict[str, Any] | None


def one_stage(verb: str, models: Sequence[Reference], task: TaskLike, seed: int | None, settings: dict[str, Any], **roles: Any) -> Recipe:
    """Build the one-stage recipe that a verb of the command line, or a function of this module, stands for.

    `roles` are the `teacher` (or a list of them) and the `student` of `distill`; a `seed` of None is 0.

    Raises:
        UsageError: a setting that the verb does not know, a value out of its bounds, or a seed beside seeds.
        RecipeError: a malformed task.
    """
    table = VERBS[verb]
    validate(table.settings, settings, verb, UsageError)
    if seed is not None and settings.get("seeds"):
        raise UsageError(f"{verb} takes a seed or seeds, not both", "leave one of them out: each of the seeds takes the seed's place")
    if table.needs_task and task is None:
        raise UsageError(f"{verb} needs a task", "give --task T, or --train, --validation, --text and --label")
    names = [as_reference(model) for model in models]
    stage: dict[str, Any] = {"do": verb, **settings, **{role: as_references(model) for role, model in roles.items()}}
    document: dict[str, Any] = {"schema": 1, "name": verb, "seed": seed or 0, "stages": {verb: stage}}
    if table.many:
        if len(set(names)) < len(names):
            raise UsageError(f"the same model was given twice: {next(name for name in names if names.count(name) > 1)}")
        stage["from"] = names
    elif names:
        document["model"], stage["from"] = names[0], MODEL
    if task is not None:
        document["task"] = task
    return check(document, resolve, verb)


def as_reference(model: Reference) -> str:
    """Write a model so that a recipe takes it for one: a local folder's path always has a slash, as in `./teacher`."""
    text = str(model)
    if is_spec(text) or "/" in text or ":" in text or (text in LEGACY and not Path(text).is_dir()):
        return LEGACY.get(text, text)
    return f"./{text}"


def as_references(models: Reference | Sequence[Reference]) -> str | list[str]:
    """Write one model as a recipe names it, or several."""
    return as_reference(models) if isinstance(models, (str, Path)) else [as_reference(model) for model in models]


def finetune(
    model: Reference, task: TaskLike, output: Reference, *, seed: int | None = None, overwrite: bool = False, **settings: Any
) -> dict[str, Any]:
    """Train a pre-trained encoder on a task; `settings` are the fields of `FinetuneSettings`."""
    return run_single(one_stage("finetune", [model], task, seed, settings), Path(output), overwrite)


def prune(
    model: Reference, task: TaskLike, output: Reference, *, seed: int = 0, overwrite: bool = False, **settings: Any
) -> dict[str, Any]:
    """Remove attention heads and FFN neurons; `settings` are the fields of `PruneSettings`."""
    return run_single(one_stage("prune", [model], task, seed, settings), Path(output), overwrite)


def plan_prune(model: Reference, task: TaskLike, *, seed: int = 0, **settings: Any) -> dict[str, Any]:
    """Return what `prune` would cut for each target, and the latency that it predicts; nothing is written."""
    return plan_single(one_stage("prune", [model], task, seed, settings))


def factorize(
    model: Reference, task: TaskLike, output: Reference, *, seed: int = 0, overwrite: bool = False, **settings: Any
) -> dict[str, Any]:
    """Replace linears and word embeddings by low-rank factors; `settings` are the fields of `FactorizeSettings`."""
    return run_single(one_stage("factorize", [model], task, seed, settings), Path(output), overwrite)


def share(
    model: Reference, task: TaskLike, output: Reference, *, seed: int = 0, overwrite: bool = False, **settings: Any
) -> dict[str, Any]:
    """Let groups of layers share one copy of weights; `settings` are the fields of `ShareSettings`."""
    return run_single(one_stage("share", [model], task, seed, settings), Path(output), overwrite)


def distill(
    teacher: Reference | Sequence[Reference], student: Reference, task: TaskLike, output: Reference, *, seed: int | None = None,
    overwrite: bool = False, **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train a student (a model, or a SPEC such as `layers=3`) on its teacher, or on several; `settings`: `DistillSettings`."""
    return run_single(_distillation(teacher, student, task, seed, settings), Path(output), overwrite)


def plan_distill(
    teacher: Reference | Sequence[Reference], student: Reference, task: TaskLike, *, seed: int | None = None, **settings: Any
) -> dict[str, Any]:
    """Return what `distill` would match with what, with weights, shapes and projections; nothing is trained or written."""
    return plan_single(_distillation(teacher, student, task, seed, settings))


def _distillation(
    teacher: Reference | Sequence[Reference], student: Reference, task: TaskLike, seed: int | None, settings: dict[str, Any]
) -> Recipe:
    """Build the recipe of `distill`; the name of a SPEC is taken for a folder where there is one."""
    named = STUDENTS.get(str(student)) if not Path(student).is_dir() else None
    return one_stage("distill", [], task, seed, settings, teacher=teacher, student=named or student)


def export(
    model: Reference, output: Reference, task: TaskLike = None, *, seed: int = 0, overwrite: bool = False, **settings: Any
) -> dict[str, Any]:
    """Write a verified ONNX artifact; with a task it is verified on the task's texts. `settings`: `ExportSettings`."""
    return run_single(one_stage("export", [model], task, seed, settings), Path(output), overwrite)


def quantize(
    model: Reference, task: TaskLike, output: Reference, *, seed: int = 0, overwrite: bool = False, **settings: Any
) -> dict[str, Any]:
    """Make an int8 (or int4, fp16, bf16) ONNX artifact of a checkpoint or an fp32 artifact; `settings`: `QuantizeSettings`."""
    return run_single(one_stage("quantize", [model], task, seed, settings), Path(output), overwrite)


def evaluate(models: Sequence[Reference], task: TaskLike, *, errors: Reference | None = None, **settings: Any) -> dict[str, Any]:
    """Measure accuracy with intervals, every model paired with the first; `settings`: `EvalSettings`.

    `errors` names a file (JSON lines) for the examples that some model gets wrong or on which two models disagree.
    """
    recipe = one_stage("eval", models, task, 0, settings)
    if errors is None:
        return run_single(recipe, None)
    target = Path(errors).absolute()
    if target.is_dir() or not target.parent.is_dir() or not os.access(target if target.exists() else target.parent, os.W_OK):
        raise UsageError(f"{errors} cannot be written", "name a file in a folder that exists and may be written")
    with tempfile.TemporaryDirectory() as scratch:
        document = run_single(recipe, Path(scratch) / "eval")
        shutil.copyfile(Path(scratch) / "eval" / ERRORS_FILE, errors)
    return document | {"output": str(errors)}


def bench(models: Sequence[Reference], task: TaskLike = None, **settings: Any) -> dict[str, Any]:
    """Measure latency, throughput, memory and size, interleaved; `settings` are the fields of `BenchSettings`.

    With a task its own texts are timed, too, at their own lengths.
    """
    if task is not None:
        settings = {"task_lengths": True, **settings}
    return run_single(one_stage("bench", models, task, 0, settings), None)


def run(
    recipe: Reference, output: Reference | None = None, overrides: Sequence[str] = (), files: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run a recipe (a ready one's name, or a file) in a run folder; returns the run's manifest.

    `overrides` are `path=value` as after `--set`; `files` maps splits to local files in the place of the task's data.
    """
    loaded = loading.load(str(recipe), tuple(overrides), files)
    return run_recipe(loaded, Path(output) if output else default_output(loaded))


def default_output(recipe: Recipe) -> Path:
    """Return the run folder of a recipe where none is named: `runs/NAME`."""
    return Path("runs") / recipe.name
