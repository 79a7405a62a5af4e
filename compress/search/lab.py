"""The lab of a search: its stages run in a store, and a ledger keeps its time across interruptions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from compress.core import console, files
from compress.core.errors import CompressError, ResourceError
from compress.core.system_errors import typed_errors
from compress.data.spec import TaskSpec
from compress.recipe.cache_key import cache_key
from compress.recipe.check import check_recipe
from compress.recipe.schema import SCHEMA, Recipe, Stage
from compress.recipe.workspace import Workspace
from compress.results import RuntimeHints
from compress.search.costs import LearnedCosts, SearchCosts
from compress.search.executor import Executor, JobEvent
from compress.search.jobs import job_graph
from compress.search.space import Stages
from compress.search.store import FinishedStage, Store, stored_stages
from compress.search.trials import ResultT

LEDGER_SCHEMA = 1


class Entry(TypedDict):
    """A stage in the ledger.

    `reused`: whether an earlier search had left it in the store. `seconds`: the wall time that this search spent on it; None while it
    runs. `before`: what the search did between the stage before it and this one, in seconds.
    """

    reused: bool
    seconds: float | None
    before: NotRequired[float]


@dataclass
class Ledger:
    """What a search has spent, by cache key; kept in a file, so that a killed search counts on.

    Attributes:
        path: of the file.
        asked: a digest of what was asked: a ledger of another question is not read.
        startup: seconds from the call to the first stage: reading data, a first timing.
        scale: of this machine, see `SearchCosts`.
        known: what was known of costs when the search began.
        entries: by cache key, or by the name of work that is no stage.
        results: of that work, by name.
        visited: keys that this process has come to. A resumed search repeats its decisions, with the time that was spent then.
    """

    path: Path
    asked: str
    startup: float = 0.0
    scale: float = 1.0
    known: LearnedCosts = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)
    visited: set[str] = field(default_factory=set)
    results: dict[str, object] = field(default_factory=dict)

    @staticmethod
    def open(path: Path, asked: str, begin: Callable[[], tuple[float, float, LearnedCosts]]) -> Ledger:
        """Read the ledger of an interrupted search that was asked the same, or begin a new one, which is written with its first stage.

        Args:
            path: of the file.
            asked: a digest of what is asked.
            begin: returns the startup time, the scale of the machine and what is known of costs.
        """
        try:
            document = files.read_json(path)
            if document["schema"] == LEDGER_SCHEMA and document["asked"] == asked:
                times = document["startup"], document["scale"], document["known"]
                return Ledger(path, asked, *times, document["entries"], results=document.get("results", {}))
        except (OSError, ValueError, KeyError, TypeError):  # no ledger yet, or a damaged one: a new one is begun
            pass
        return Ledger(path, asked, *begin())

    @property
    def resumed(self) -> bool:
        """Whether the search had begun stages already."""
        return bool(self.entries)

    def save(self) -> None:
        """Write the file."""
        document = {"schema": LEDGER_SCHEMA, "asked": self.asked, "startup": self.startup, "scale": self.scale, "known": self.known}
        files.write_json(self.path, {**document, "entries": self.entries, "results": self.results})

    def spent(self) -> float:
        """Return the seconds of all stages up to this point of the search."""
        entries = (self.entries[key] for key in self.visited)
        return self.startup + sum((entry["seconds"] or 0.0) + entry.get("before", 0.0) for entry in entries)

    def costs(self) -> SearchCosts:
        """Return what was known of costs when the search began."""
        return SearchCosts.from_json(cast("Mapping[str, Mapping[str, list[float]]]", self.known), self.scale)


class StoreLab:
    """Runs the stages of one search in a store.

    Args:
        store: of stages.
        ledger: of the search.
        model: the model that is made smaller.
        task: the task.
        seed: of every stage.
        name: of the recipes.
        executor: runs the stages; None: this process does.
    """

    def __init__(
        self, store: Store, ledger: Ledger, model: str, task: TaskSpec, seed: int, name: str, executor: Executor | None = None
    ) -> None:
        self.store, self.ledger, self.task, self.executor = store, ledger, task, executor
        self.top: dict[str, Any] = {"schema": SCHEMA, "name": name, "seed": seed, "model": model}
        self.finished: dict[str, FinishedStage] = {}
        self._folders: dict[str, Path] = {}
        self._digests: dict[str, str] = {}
        self._hints: dict[str, RuntimeHints | None] = {}
        self._ended = time.monotonic()  # the stage before

    def recipe(self, stages: Stages, **more: object) -> Recipe:
        """Return stages as a recipe; `more` are further keys of its top."""
        document = {**self.top, **more, "task": self.task.name, "stages": {name: dict(fields) for name, fields in stages.items()}}
        return check_recipe(document, lambda _: self.task, "search")

    def run(self, stages: Stages, name: str) -> Mapping[str, object]:
        """Run a stage, whose inputs are finished, and return its manifest.

        A stage that is gone from the store runs again, and counts with the time that it takes now.
        """
        started = time.monotonic()
        stage, workspace = self._prepared(stages, name)
        key = cache_key(stage, workspace)
        entry = self.ledger.entries.get(key)
        self.ledger.visited.add(key)
        begun_before = entry is not None and entry["seconds"] is None
        if entry is None:
            stored = self.store.find(stage, workspace) is not None
            entry = self.ledger.entries[key] = {"reused": stored, "seconds": None, "before": started - self._ended}
            self.ledger.save()
        try:
            with typed_errors():
                done = self._obtain(stages, stage, workspace)
        except CompressError:
            self._note(entry, time.monotonic() - started)
            raise
        workspace.finish(name, done.folder, done.manifest)
        self.finished[name] = done
        seconds = time.monotonic() - started
        if begun_before:  # it was killed, or its end was not noted: its own times know more
            self._note(entry, max(seconds, done.seconds, trained_seconds(done)))
        elif entry["seconds"] is None or done.ran:
            entry["reused"] = entry["reused"] and not done.ran
            self._note(entry, seconds)
        self._ended = time.monotonic()
        return cast("Mapping[str, object]", done.manifest)

    def _note(self, entry: Entry, seconds: float) -> None:
        """Note what a stage took."""
        entry["seconds"] = seconds
        self.ledger.save()
        self._ended = time.monotonic()

    def _obtain(self, stages: Stages, stage: Stage, workspace: Workspace) -> FinishedStage:
        """Return a stage from the store, running it if it is missing: here, or where the executor does."""
        if self.executor is None or self.store.find(stage, workspace) is not None:
            return self.store.obtain(stage, workspace)
        graph = job_graph({self.top["name"]: self.recipe(stages)}, upto=[stage.name])
        outcome = self.executor.run(graph, self.store, _show_events)[graph.job_of[self.top["name"]][stage.name]]
        if outcome.stage is None:
            raise outcome.error or ResourceError(f"stage {stage.name} did not end")
        return outcome.stage  # its key names the machine that ran it, which need not be this one

    def reused(self, stages: Stages, name: str) -> bool:
        """Return whether an earlier search left this stage in the store, and it still is there.

        A stage with unfinished inputs counts as missing.
        """
        recipe = self.recipe(stages)
        if any(
            reference.partition("/")[0] in recipe.stages.keys() - self.finished.keys() for reference in recipe.stages[name].references()
        ):
            return False
        stage, workspace = self._prepared(stages, name)
        entry = self.ledger.entries.get(cache_key(stage, workspace))
        return (entry is None or entry["reused"]) and self.store.find(stage, workspace) is not None

    def stored(self, stages: Stages) -> set[str]:
        """Return which stages an earlier search left in the store; nothing runs."""
        keys = {name: done.manifest.get("key", "") for name, done in stored_stages(self.recipe(stages), self.store).items()}
        return {name for name, key in keys.items() if (entry := self.ledger.entries.get(key)) is None or entry["reused"]}

    def seconds_of(self, name: str) -> float:
        """Return how long a stage took when it ran."""
        done = self.finished[name]
        entry = self.ledger.entries.get(done.manifest.get("key", ""))
        return done.seconds if entry is None or entry["reused"] or entry["seconds"] is None else max(entry["seconds"], done.seconds)

    def spent(self) -> float:
        """Return the seconds of this search so far."""
        return self.ledger.spent()

    def timed(self, name: str, work: Callable[[], ResultT]) -> ResultT:
        """Do work that is no stage, and count its time. Its result, JSON, is kept: a resumed search decides by the same numbers."""
        ledger = self.ledger
        ledger.visited.add(name)
        if name not in ledger.results:
            started = time.monotonic()
            ledger.results[name] = work()
            ledger.entries[name] = {"reused": False, "seconds": None, "before": started - self._ended}
            self._note(ledger.entries[name], time.monotonic() - started)
        return cast("ResultT", ledger.results[name])

    def reused_seconds(self) -> float:
        """Return what the stages took that earlier searches had left in the store."""
        entries = self.ledger.entries
        return sum(
            done.seconds for done in self.finished.values() if (entry := entries.get(done.manifest.get("key", ""))) and entry["reused"]
        )

    def _prepared(self, stages: Stages, name: str) -> tuple[Stage, Workspace]:
        """Return a stage, and a workspace that knows all finished ones."""
        recipe = self.recipe(stages)
        workspace = self.store.workspace(recipe)
        workspace.folder_of, workspace.digest_of, workspace.runtime_of = self._folders, self._digests, self._hints
        return recipe.stages[name], workspace


def _show_events(event: JobEvent) -> None:
    """Print what a stage that runs elsewhere reports."""
    if event.event.kind == "started":
        console.info(f"  {event.job.name} runs on {event.where}")
    elif event.event.kind == "warning":
        console.warn(event.event.text)


def trained_seconds(done: FinishedStage) -> float:
    """Return how long a stage has trained in all, before an interruption, too; 0 if it did not train."""
    training = cast("Mapping[str, Mapping[str, float]]", done.manifest).get("training") or {}
    return training.get("seconds", 0.0)
