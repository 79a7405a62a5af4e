"""The stages of many recipes as one graph of jobs: a stage that several recipes have in common is one job."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from compress.core import digests
from compress.core.errors import UsageError
from compress.recipe.schema import MODEL, Recipe, Stage, stage_of
from compress.recipe.verbs import has_budget
from compress.search.store import needed_stages
from compress.settings import PruneSettings
from compress.settings.export import TIMED, TuneSettings

TIMED_TARGETS = ("target_speedup", "target_latency_ms", "max_drop")  # of prune, reached by measured latencies


@dataclass(frozen=True)
class Job:
    """A stage to run once, whichever recipes it belongs to.

    `needs` are the ids of the jobs whose outputs it reads, by the stage's name in `recipe`.
    """

    id: str
    recipe: Recipe
    name: str
    needs: dict[str, str]

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.recipe.stages[self.name]


@dataclass(frozen=True)
class JobGraph:
    """All jobs of some recipes, inputs first; `job_of[recipe's label][stage]` is the id of its job."""

    jobs: dict[str, Job]
    job_of: dict[str, dict[str, str]]


def job_graph(recipes: Mapping[str, Recipe], upto: Collection[str] | None = None) -> JobGraph:
    """Return the jobs of recipes by label; `upto` limits them to these stages and those that they depend on.

    Two stages are one job if their verbs, settings, seeds, tasks and inputs are the same, all the way down. That is decided
    without running anything, so it finds less than the cache keys do; what it misses, the store still runs only once.

    Raises:
        UsageError: no recipe has a stage of `upto`.
    """
    jobs: dict[str, Job] = {}
    job_of: dict[str, dict[str, str]] = {}
    for label, recipe in recipes.items():
        ids: dict[str, str] = {}
        for name in needed_stages(recipe, upto):
            stage = recipe.stages[name]
            needs = {stage_of(reference): ids[stage_of(reference)] for reference in stage.references() if stage_of(reference) in ids}
            ids[name] = _identity(recipe, stage, needs)
            jobs.setdefault(ids[name], Job(ids[name], recipe, name, needs))
        job_of[label] = ids
    if not jobs:
        raise UsageError("there is nothing to run")
    return JobGraph(jobs, job_of)


def _identity(recipe: Recipe, stage: Stage, needs: Mapping[str, str]) -> str:
    return digests.digest_json(
        {
            "verb": stage.verb.name,
            "settings": stage.settings.model_dump(mode="json"),
            "seed": stage.seed,
            "roles": [list(stage.sources), stage.teacher, stage.student, *stage.more_teachers],
            "needs": needs,
            "model": recipe.model if MODEL in stage.references() else None,
            "task": recipe.task.model_dump(mode="json") if recipe.task else None,
        }
    )


def is_timed(stage: Stage) -> bool:
    """Return whether a stage measures time, or trains for a given time, so that nothing else may run on its machine meanwhile."""
    settings = stage.settings
    if has_budget(settings):
        return True
    if isinstance(settings, PruneSettings):
        return any(getattr(settings, target) is not None for target in TIMED_TARGETS)
    return stage.verb.name == "bench" or (isinstance(settings, TuneSettings) and TIMED.holds(settings))


def may_use_gpu(stage: Stage) -> bool:
    """Return whether a stage computes on a GPU if there is one: its device is `cuda`, `tensorrt` or `auto`."""
    return getattr(stage.settings, "device", "cpu") != "cpu"


def needs_gpu(stage: Stage) -> bool:
    """Return whether a stage fails without a GPU."""
    return getattr(stage.settings, "device", "cpu") in ("cuda", "tensorrt")
