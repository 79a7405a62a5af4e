"""The Python API: every verb as a function, on the same path as the command line.

    import compress

    teacher = compress.finetune("builtin:minilm-l6", task="bbc-news", output="teacher", epochs=3)
    print(teacher.metrics["validation"]["accuracy"])
    compress.prune("teacher", task="bbc-news", output="slim", target_flops=0.5)

Settings are typed keywords. Each function returns a `compress.results.result.Result`: a dictionary whose keys are attributes
(`output`, `metrics`, `seconds`, …). Failures are `compress.CompressError` with the exit code of the command line.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Unpack, cast

from compress.core import outputs
from compress.core.errors import UsageError, did_you_mean
from compress.core.scratch import folder as scratch_folder
from compress.core.validation import validate
from compress.data.presets import TaskLike, resolve
from compress.recipe import load as loading
from compress.recipe.one_stage import ModelLike, as_reference, one_stage
from compress.recipe.run import run_recipe
from compress.recipe.schema import Recipe
from compress.recipe.single import plan_single, run_single
from compress.results import DistillPlan, PrunePlan
from compress.results.objects import (
    AutoResult,
    BenchResult,
    DistillResult,
    EvalResult,
    ExportResult,
    FactorizeResult,
    FinetuneResult,
    PruneResult,
    QuantizeResult,
    RunResult,
    ShareResult,
    SweepResult,
)
from compress.results.search import SearchPlan
from compress.search.auto import plan_search, run_auto
from compress.search.prepare import Question
from compress.search.sweep import load_sweep, run_sweep
from compress.settings.auto import AutoSettings
from compress.settings.keywords import (
    AutoKeywords,
    BenchKeywords,
    DistillKeywords,
    EvalKeywords,
    ExportKeywords,
    FactorizeKeywords,
    FinetuneKeywords,
    PruneKeywords,
    QuantizeKeywords,
    ShareKeywords,
)
from compress.stage import ERRORS_FILE, STUDENTS, is_spec

PathLike = str | Path


def finetune(
    model: ModelLike,
    task: TaskLike,
    output: PathLike,
    *,
    seed: int | None = None,
    overwrite: bool = False,
    **settings: Unpack[FinetuneKeywords],
) -> FinetuneResult:
    """Train a pre-trained encoder on a task."""
    return FinetuneResult(run_single(one_stage("finetune", [model], task, seed, settings), Path(output), overwrite))


def prune(
    model: ModelLike, task: TaskLike, output: PathLike, *, seed: int = 0, overwrite: bool = False, **settings: Unpack[PruneKeywords]
) -> PruneResult:
    """Remove attention heads and FFN neurons; or layers, hidden width, tokens or single weights."""
    return PruneResult(run_single(one_stage("prune", [model], task, seed, settings), Path(output), overwrite))


def plan_prune(model: ModelLike, task: TaskLike, *, seed: int = 0, **settings: Unpack[PruneKeywords]) -> PrunePlan:
    """Return what `prune` would remove for each target, and the latency that it predicts; nothing is written."""
    return cast("PrunePlan", plan_single(one_stage("prune", [model], task, seed, settings)))


def factorize(
    model: ModelLike, task: TaskLike, output: PathLike, *, seed: int = 0, overwrite: bool = False, **settings: Unpack[FactorizeKeywords]
) -> FactorizeResult:
    """Replace linear layers and token embeddings by low-rank factors."""
    return FactorizeResult(run_single(one_stage("factorize", [model], task, seed, settings), Path(output), overwrite))


def share(
    model: ModelLike, task: TaskLike, output: PathLike, *, seed: int = 0, overwrite: bool = False, **settings: Unpack[ShareKeywords]
) -> ShareResult:
    """Let groups of layers share one copy of weights."""
    return ShareResult(run_single(one_stage("share", [model], task, seed, settings), Path(output), overwrite))


def distill(
    teacher: ModelLike | Sequence[ModelLike],
    student: ModelLike,
    task: TaskLike,
    output: PathLike,
    *,
    seed: int | None = None,
    overwrite: bool = False,
    **settings: Unpack[DistillKeywords],
) -> DistillResult:
    """Train a student (a model, or a SPEC such as `layers=3`) on the outputs of its teacher, or of several."""
    return DistillResult(run_single(_distillation(teacher, student, task, seed, settings), Path(output), overwrite))


def plan_distill(
    teacher: ModelLike | Sequence[ModelLike],
    student: ModelLike,
    task: TaskLike,
    *,
    seed: int | None = None,
    **settings: Unpack[DistillKeywords],
) -> DistillPlan:
    """Return which layers `distill` would match, with weights, shapes and projections; nothing is trained or written."""
    return cast("DistillPlan", plan_single(_distillation(teacher, student, task, seed, settings)))


def _distillation(
    teacher: ModelLike | Sequence[ModelLike], student: ModelLike, task: TaskLike, seed: int | None, settings: Mapping[str, object]
) -> Recipe:
    """Return the recipe of `distill`; a folder goes before the name of a SPEC.

    Raises:
        UsageError: the student is no folder, and nearly the name of a SPEC.
    """
    name = str(student)
    spec = STUDENTS.get(name) if not Path(student).is_dir() else None
    if spec is None and not is_spec(name) and not Path(student).exists() and (near := did_you_mean(name, STUDENTS)):
        raise UsageError(f"there is no student '{name}'{near}", f"give a model, a SPEC such as layers=3, or one of: {', '.join(STUDENTS)}")
    return one_stage("distill", [], task, seed, settings, teacher=teacher, student=spec or student)


def export(
    model: ModelLike,
    output: PathLike,
    task: TaskLike | None = None,
    *,
    seed: int = 0,
    overwrite: bool = False,
    **settings: Unpack[ExportKeywords],
) -> ExportResult:
    """Write a verified ONNX artifact; with a task it is verified on the texts of the task."""
    return ExportResult(run_single(one_stage("export", [model], task, seed, settings), Path(output), overwrite))


def quantize(
    model: ModelLike,
    task: TaskLike | None,
    output: PathLike,
    *,
    seed: int = 0,
    overwrite: bool = False,
    **settings: Unpack[QuantizeKeywords],
) -> QuantizeResult:
    """Write an int8 (or int4, fp16, bf16) ONNX artifact of a checkpoint or an fp32 artifact."""
    return QuantizeResult(run_single(one_stage("quantize", [model], task, seed, settings), Path(output), overwrite))


def evaluate(
    models: Sequence[ModelLike], task: TaskLike, *, errors: PathLike | None = None, **settings: Unpack[EvalKeywords]
) -> EvalResult:
    """Measure accuracy with intervals; every model is compared with the first on the same examples.

    Args:
        models: what is evaluated.
        task: the task.
        errors: a file (JSON lines) for the examples that some model gets wrong or on which two models disagree.
        settings: settings of `eval`.

    Raises:
        UsageError: `errors` cannot be written.
    """
    recipe = one_stage("eval", models, task, 0, settings)
    if errors is None:
        return EvalResult(run_single(recipe, None))
    outputs.check_output_file(Path(errors))
    with scratch_folder() as scratch:
        document = run_single(recipe, scratch / "eval")
        shutil.copyfile(scratch / "eval" / ERRORS_FILE, errors)
    return EvalResult(document | {"output": str(errors)})


def bench(models: Sequence[ModelLike], task: TaskLike | None = None, **settings: Unpack[BenchKeywords]) -> BenchResult:
    """Measure latency, throughput, memory and size, interleaved; with a task its texts are timed, too, at their own lengths."""
    if task is not None:
        settings = {"task_lengths": True, **settings}
    return BenchResult(run_single(one_stage("bench", models, task, 0, settings), None))


def run(
    recipe: PathLike, output: PathLike | None = None, overrides: Sequence[str] = (), files: Mapping[str, str] | None = None
) -> RunResult:
    """Run a recipe in a run folder.

    Args:
        recipe: the name of a ready recipe, or a file.
        output: the run folder; by default `runs/NAME`.
        overrides: changes as `path=value`, as after `--set`.
        files: local files by split (`train`, `validation`, `test`) that replace the data of the recipe's task.

    Raises:
        GateMissed: a gate of the recipe was missed; everything is written.
    """
    loaded = loading.load(str(recipe), tuple(overrides), dict(files) if files else None)
    return RunResult(run_recipe(loaded, Path(output) if output else default_output(loaded)))


def auto(
    model: ModelLike,
    task: TaskLike,
    output: PathLike,
    *,
    teacher: ModelLike | None = None,
    store: PathLike | None = None,
    ray: str | None = None,
    seed: int = 0,
    **settings: Unpack[AutoKeywords],
) -> AutoResult:
    """Find the best model for an accuracy budget or a latency, within a time budget, and judge it on data that chose nothing.

    Args:
        model: what is made smaller; it is fine-tuned first if its head is not trained for the task.
        task: the task.
        output: the folder to write.
        teacher: a bigger fine-tuned model to learn from.
        store: a folder of finished stages that several searches share; by default `output/stages`.
        ray: where stages run, as for `sweep`.
        seed: of every stage.
        settings: objective (`max_drop`, with or without `smallest`, or `target_latency_ms`), serving point, `budget`.

    Raises:
        UsageError: no objective or several, or a budget that is too small for a first answer.
        GateMissed: nothing keeps what was asked for; the nearest is in `output`.
    """
    question = _question(model, task, teacher, seed, settings)
    return AutoResult(run_auto(question, Path(output), Path(store) if store else None, ray))


def plan_auto(
    model: ModelLike,
    task: TaskLike,
    output: PathLike,
    *,
    teacher: ModelLike | None = None,
    store: PathLike | None = None,
    seed: int = 0,
    **settings: Unpack[AutoKeywords],
) -> SearchPlan:
    """Return what `auto` would do, and what its steps are expected to take; nothing is trained or written."""
    return plan_search(_question(model, task, teacher, seed, settings), Path(output), Path(store) if store else None)


def _question(model: ModelLike, task: TaskLike, teacher: ModelLike | None, seed: int, settings: Mapping[str, object]) -> Question:
    checked = validate(AutoSettings, settings, "auto", UsageError)
    return Question(as_reference(model), resolve(task), checked, seed, as_reference(teacher) if teacher else "")


def sweep(
    recipe: PathLike,
    output: PathLike,
    *,
    grid: Mapping[str, Sequence[object]] | None = None,
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    ray: str | None = None,
    store: PathLike | None = None,
) -> SweepResult:
    """Run a recipe for every combination of values of a grid and every seed; stages that points share run once.

    Args:
        recipe: the name of a ready recipe, or a file.
        output: the folder to write: a run folder for each point, `sweep.json` and `report.html`.
        grid: values by path, such as `{"slim.target_speedup": [2, 3, 4]}`; several paths multiply.
        seeds: replace the seed of the recipe.
        overrides: changes as `path=value` that all points share.
        files: local files by split that replace the data of the recipe's task.
        ray: None runs stages in this process; `local` starts a Ray cluster on this machine, `auto` uses the one that runs here, and
            `HOST:PORT` that one.
        store: the folder with finished stages, which other sweeps may share; by default `store` in the output.

    Raises:
        PointsFailed: a point failed; everything else is written.
    """
    plan = load_sweep(str(recipe), grid or {}, seeds, overrides, files)
    return SweepResult(run_sweep(plan, Path(output), ray, Path(store) if store else None))


def default_output(recipe: Recipe) -> Path:
    """Return the run folder of a recipe if none is named: `runs/NAME`."""
    return Path("runs") / recipe.name
