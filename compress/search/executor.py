"""Executors: what runs the jobs of a graph in a store. `LocalExecutor` runs them in this process; see `ray_executor` for many machines."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from compress.core import console
from compress.core.errors import CompressError
from compress.core.system_errors import typed_errors
from compress.recipe.preflight import check_inputs
from compress.recipe.schema import Recipe
from compress.search.jobs import Job, JobGraph, job_graph
from compress.search.store import FinishedStage, StageEvent, Store, check_one_process


@dataclass(frozen=True)
class JobEvent:
    """A `StageEvent` of a job, with where it runs: a node's name, empty for this process."""

    job: Job
    event: StageEvent
    where: str = ""


JobObserver = Callable[[JobEvent], None]


@dataclass(frozen=True)
class Outcome:
    """How a job ended: `stage` if it is finished, else `error`. `blocked_by`: the job, itself or an input, that failed."""

    stage: FinishedStage | None = None
    error: CompressError | None = None
    blocked_by: str = ""


class Executor(Protocol):
    """What runs jobs."""

    def run(self, graph: JobGraph, store: Store, observer: JobObserver) -> dict[str, Outcome]:
        """Run every job whose inputs can be made; returns how each ended. A failing job does not stop the others.

        Raises:
            KeyboardInterrupt: as it comes. What is finished is in the store; the same call resumes.
        """
        ...

    def close(self) -> None:
        """Release what the executor holds: connections, a cluster that it started."""
        ...


class LocalExecutor:
    """Runs jobs one after the other in this process, each with all cores."""

    def run(self, graph: JobGraph, store: Store, observer: JobObserver) -> dict[str, Outcome]:
        """Run all jobs in order."""
        outcomes: dict[str, Outcome] = {}
        for job in graph.jobs.values():
            outcomes[job.id] = blocked(job, outcomes) or run_job(
                job, {name: outcomes[need] for name, need in job.needs.items()}, store, observer
            )
        return outcomes

    def close(self) -> None:
        """Nothing is held."""


def blocked(job: Job, outcomes: Mapping[str, Outcome]) -> Outcome | None:
    """Return the outcome of a job with an input that failed; None if all are finished."""
    failed = next((outcomes[need] for need in job.needs.values() if outcomes[need].error is not None), None)
    return None if failed is None else Outcome(error=failed.error, blocked_by=failed.blocked_by)


def run_job(job: Job, inputs: Mapping[str, Outcome], store: Store, observer: JobObserver, where: str = "") -> Outcome:
    """Run one job whose inputs, by stage name, are finished; every failure becomes an outcome, bugs included."""
    workspace = store.workspace(job.recipe)
    for name, outcome in inputs.items():
        if outcome.stage is not None:
            workspace.finish(name, outcome.stage.folder, outcome.stage.manifest)
    try:
        with typed_errors():
            return Outcome(store.obtain(job.stage, workspace, lambda event: observer(JobEvent(job, event, where))))
    except CompressError as error:
        return Outcome(error=error, blocked_by=job.id)
    except Exception as error:
        if console.debugging():
            console.warn(traceback.format_exc())
        bug = CompressError(f"this is a bug in compress: {type(error).__name__}: {error}", "run again with --debug for the traceback")
        return Outcome(error=bug, blocked_by=job.id)


@dataclass(frozen=True)
class RecipeOutcome:
    """How a recipe ended: its finished stages by name, and the first error with the stage that raised it."""

    stages: dict[str, FinishedStage]
    error: CompressError | None = None
    failed_stage: str = ""


def check_recipes(recipes: Collection[Recipe], store: Store) -> None:
    """Fail before any work if the model or data of a recipe is unavailable.

    Raises:
        CompressError: as `check_inputs` raises it.
    """
    with typed_errors():
        for recipe in recipes:
            check_inputs(recipe, store.workspace(recipe))


def run_recipes(
    recipes: Mapping[str, Recipe],
    store: Store,
    executor: Executor,
    *,
    upto: Collection[str] | None = None,
    observer: JobObserver = lambda event: None,
) -> dict[str, RecipeOutcome]:
    """Run the stages of many recipes in a store, each shared stage once; gates are not checked, nothing is delivered.

    Args:
        recipes: recipes by a label of your choice.
        store: where stages are found or kept.
        executor: what runs them.
        upto: names of stages: only these run, and those that they depend on. None: all.
        observer: is called with each event, in this process.

    Returns:
        How each recipe ended, by label.

    Raises:
        UsageError: several processes were launched, or a recipe has no stage of `upto`.
    """
    check_one_process()
    graph = job_graph(recipes, upto)
    outcomes = executor.run(graph, store, observer)
    return {label: _recipe_outcome(graph, label, recipe, outcomes) for label, recipe in recipes.items()}


def _recipe_outcome(graph: JobGraph, label: str, recipe: Recipe, outcomes: Mapping[str, Outcome]) -> RecipeOutcome:
    ids = graph.job_of[label]
    stages = {name: FinishedStage(name, done.folder, done.manifest, done.ran) for name in ids if (done := outcomes[ids[name]].stage)}
    failed = next((outcomes[job] for job in ids.values() if outcomes[job].error is not None), None)
    if failed is None:
        return RecipeOutcome(stages)
    name = next((name for name, job in ids.items() if job == failed.blocked_by), "")
    return RecipeOutcome(stages, failed.error, name)
