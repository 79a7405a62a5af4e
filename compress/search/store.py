"""A store: a folder of finished stages that many recipes share, each named after its cache key.

    STORE/finetune-3f2a91c07be4d815/    what the stage wrote, with its manifest, as in a run folder

A stage that is in the store is never run again, whichever recipe, seed or search asks for it. Each folder has its own lock, so
several processes, also of several machines that see the folder, fill a store together: a stage that another process writes is
waited for, and taken over if that process dies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compress.core import console, locks, outputs, processes
from compress.core.errors import Locked, UsageError
from compress.core.system_errors import typed_errors
from compress.data.spec import TaskSpec
from compress.data.task import Task
from compress.inference.retriever import open_task
from compress.recipe.artifact import write_stage
from compress.recipe.cache_key import cache_key
from compress.recipe.plan import finished
from compress.recipe.preflight import check_inputs
from compress.recipe.schema import Recipe, Stage, stage_of
from compress.recipe.verbs import VERBS
from compress.recipe.workspace import Workspace
from compress.results import StageManifest

KEY_DIGITS = 16  # of a cache key, in the name of a folder
OURS = re.compile(rf"\.?({'|'.join(VERBS)})-[0-9a-f]{{{KEY_DIGITS}}}.*|\.?learned\b.*|\.probe-.*")  # what only a store has
SHARED = {"cache"}  # what a store may hold before its first stage, and other folders, too

EventKind = Literal["reused", "waiting", "started", "log", "warning", "finished"]


@dataclass(frozen=True)
class StageEvent:
    """What happens to a stage of a recipe."""

    kind: EventKind
    recipe: str
    stage: str
    verb: str
    folder: Path
    seconds: float | None = None  # of work, when it was finished now or earlier
    text: str = ""  # waiting: who holds the lock; log and warning, from another process: the line


StageObserver = Callable[[StageEvent], None]


@dataclass(frozen=True)
class FinishedStage:
    """A stage in the store. `ran` tells whether it ran in this call; else it was there already."""

    name: str
    folder: Path
    manifest: StageManifest
    ran: bool

    @property
    def seconds(self) -> float:
        """How long the stage took when it ran, in this call or an earlier one."""
        return self.manifest["seconds"]


class Store:
    """The folder of a store, and what this process knows of it. Tasks are read once, and the files of a stage verified once."""

    def __init__(self, folder: Path) -> None:
        self.folder = outputs.nameable(folder)
        self._tasks: dict[tuple[int, str], Task] = {}
        self._verified: dict[Path, StageManifest] = {}

    def check(self) -> None:
        """Refuse a folder that is no store: one that is not empty and has no stage, such as a home folder.

        Raises:
            UsageError: it is one, or a file.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"the store {self.folder} is a file", "choose a folder with --store")
        names = {path.name for path in self.folder.iterdir()} - SHARED if self.folder.is_dir() else set()
        if names and not any(OURS.fullmatch(name) for name in names):
            raise UsageError(
                f"{self.folder} is not empty and is no store of finished stages",
                "choose a new folder with --store, or one that an earlier auto or sweep has filled",
            )

    def workspace(self, recipe: Recipe) -> Workspace:
        """Return an empty workspace of a recipe whose task is shared with the other recipes of the same task."""
        workspace = Workspace(recipe)
        if recipe.task is not None:
            workspace.task = self.task(recipe.task)
        return workspace

    def task(self, spec: TaskSpec) -> Task:
        """Return the task of a specification, read once; `Dataset` objects are the same if they are one object."""
        known = id(spec.data), spec.model_dump_json(exclude={"data"})  # the task keeps its object, and so its id
        if known not in self._tasks:
            self._tasks[known] = open_task(spec)
        return self._tasks[known]

    def folder_of(self, stage: Stage, key: str) -> Path:
        """Return where a stage with this cache key is, or will be."""
        return self.folder / f"{stage.verb.name}-{key[:KEY_DIGITS]}"

    def find(self, stage: Stage, workspace: Workspace) -> FinishedStage | None:
        """Return a stage if it is in the store; its inputs must be finished in `workspace`."""
        return self._find(stage, cache_key(stage, workspace))

    def obtain(self, stage: Stage, workspace: Workspace, observer: StageObserver | None = None) -> FinishedStage:
        """Return a stage from the store, running it first if it is missing; its inputs must be finished in `workspace`.

        An interrupted training resumes, whichever process began it.

        Raises:
            CompressError: whatever the stage raises; nothing is stored then.
        """
        key = cache_key(stage, workspace)
        folder = self.folder_of(stage, key)

        def tell(kind: EventKind, seconds: float | None = None, text: str = "") -> None:
            console.event(f"stage {kind}", stage=stage.name, folder=folder.name, seconds=seconds)
            if observer is not None:
                observer(StageEvent(kind, workspace.recipe.name, stage.name, stage.verb.name, folder, seconds, text))

        stored = self._find(stage, key)
        if stored is None:
            try:
                with locks.locked(folder):
                    stored = self._find(stage, key) or self._run(stage, workspace, key, tell)
            except Locked as error:
                tell("waiting", text=error.message)
                with locks.locked(folder, wait=True):
                    stored = self._find(stage, key) or self._run(stage, workspace, key, tell)
        tell("finished" if stored.ran else "reused", stored.seconds)
        return stored

    def _find(self, stage: Stage, key: str) -> FinishedStage | None:
        folder = self.folder_of(stage, key)
        manifest = self._verified.get(folder)
        if manifest is None or manifest.get("key") != key or not folder.is_dir():
            manifest = finished(folder, key)
        if manifest is None:
            return None
        self._verified[folder] = manifest
        return FinishedStage(stage.name, folder, manifest, ran=False)

    def _run(self, stage: Stage, workspace: Workspace, key: str, tell: Callable[[EventKind], None]) -> FinishedStage:
        tell("started")
        folder = self.folder_of(stage, key)
        with typed_errors():
            manifest = write_stage(stage, workspace, folder, key)
        self._verified[folder] = manifest
        return FinishedStage(stage.name, folder, manifest, ran=True)


def check_one_process() -> None:
    """Refuse to search where a launcher has started several processes.

    Raises:
        UsageError: it has.
    """
    if processes.launched() > 1:
        raise UsageError("a search runs in one process, and there are several", "start it without a launcher")


def run_stages(
    recipe: Recipe, store: Store, *, upto: Collection[str] | None = None, observer: StageObserver | None = None
) -> dict[str, FinishedStage]:
    """Run the stages of a recipe in a store, one after the other in this process; gates are not checked, nothing is delivered.

    Args:
        recipe: the recipe.
        store: where its stages are found or kept.
        upto: names of stages: only these run, and those that they depend on. None: all.
        observer: is called with each event.

    Returns:
        The finished stages by name, in the recipe's order.

    Raises:
        UsageError: several processes were launched.
        CompressError: whatever a stage raises. Stages that were finished before stay in the store.
    """
    check_one_process()
    workspace = store.workspace(recipe)
    stages: dict[str, FinishedStage] = {}
    with typed_errors():
        check_inputs(recipe, workspace)
    for name in needed_stages(recipe, upto):
        stages[name] = store.obtain(recipe.stages[name], workspace, observer)
        workspace.finish(name, stages[name].folder, stages[name].manifest)
    return stages


def stored_stages(recipe: Recipe, store: Store) -> dict[str, FinishedStage]:
    """Return those stages of a recipe that are in a store already; nothing runs."""
    workspace = store.workspace(recipe)
    stages: dict[str, FinishedStage] = {}
    for name, stage in recipe.stages.items():
        if any(stage_of(reference) in recipe.stages.keys() - stages.keys() for reference in stage.references()):
            continue  # an input is missing, so the stage has no cache key yet
        stored = store.find(stage, workspace)
        if stored is not None:
            stages[name] = stored
            workspace.finish(name, stored.folder, stored.manifest)
    return stages


def needed_stages(recipe: Recipe, upto: Collection[str] | None = None) -> list[str]:
    """Return these stages and all that they depend on, in the recipe's order; None means every stage.

    Raises:
        UsageError: the recipe has no such stage.
    """
    if upto is None:
        return list(recipe.stages)
    needed = set(upto)
    if unknown := needed - recipe.stages.keys():
        raise UsageError(f"recipe {recipe.name} has no stage '{min(unknown)}'", f"it has: {', '.join(recipe.stages)}")
    for name in reversed(recipe.stages):  # inputs come before the stages that read them
        if name in needed:
            needed |= {stage_of(reference) for reference in recipe.stages[name].references()} & recipe.stages.keys()
    return [name for name in recipe.stages if name in needed]
