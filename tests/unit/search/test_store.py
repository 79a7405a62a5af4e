"""Stages that recipes share are run once, by whoever comes first."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest

from compress.core import artifacts, locks
from compress.core.errors import RecipeError, UsageError
from compress.recipe import artifact
from compress.search.store import StageEvent, Store, needed_stages, run_stages, stored_stages
from tests.unit.search.recipes import build, write_document

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return write_document(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, document: Document) -> Store:
    """A store that holds the whole recipe."""
    store = Store(tmp_path_factory.mktemp("store"))
    run_stages(build(document), store)
    return store


def kinds(events: list[StageEvent]) -> list[tuple[str, str]]:
    return [(event.stage, event.kind) for event in events]


def test_a_stage_is_kept_under_its_key(document: Document, tmp_path: Path) -> None:
    events: list[StageEvent] = []
    stages = run_stages(build(document), Store(tmp_path), upto=["teacher"], observer=events.append)
    (teacher,) = stages.values()
    assert teacher.ran
    assert teacher.folder.name == f"finetune-{teacher.manifest.get('key', '')[:16]}"
    assert teacher.seconds > 0
    assert [path.name for path in tmp_path.iterdir()] == [teacher.folder.name]
    assert kinds(events) == [("teacher", "started"), ("teacher", "finished")]


def test_nothing_runs_twice(document: Document, store: Store) -> None:
    events: list[StageEvent] = []
    stages = run_stages(build(document), Store(store.folder), observer=events.append)
    assert kinds(events) == [("teacher", "reused"), ("slim", "reused"), ("proof", "reused")]
    assert not any(stage.ran for stage in stages.values())
    assert stages["teacher"].seconds == artifacts.read_manifest(stages["teacher"].folder)["seconds"]  # pyright: ignore


def test_recipes_share_what_is_the_same(document: Document, store: Store) -> None:
    stages = run_stages(build(document, slim={"target_flops": 0.7}), store)
    assert {name: stage.ran for name, stage in stages.items()} == {"teacher": False, "slim": True, "proof": True}
    assert {name: stage.ran for name, stage in run_stages(build(document), store).items()} == dict.fromkeys(stages, False)


def test_a_damaged_stage_runs_again(document: Document, tmp_path: Path) -> None:
    recipe = build(document)
    folder = run_stages(recipe, Store(tmp_path), upto=["teacher"])["teacher"].folder
    digest = artifacts.read_manifest(folder)["digest"]  # pyright: ignore
    with (folder / "model.safetensors").open("ab") as stream:
        stream.write(b"x")
    assert stored_stages(recipe, Store(tmp_path)) == {}
    again = run_stages(recipe, Store(tmp_path), upto=["teacher"])["teacher"]
    assert again.ran
    assert again.manifest["digest"] == digest


def test_what_is_stored_is_known_without_running(document: Document, store: Store, tmp_path: Path) -> None:
    assert list(stored_stages(build(document), Store(store.folder))) == ["teacher", "slim", "proof"]
    assert list(stored_stages(build(document, slim={"target_flops": 0.9}), Store(store.folder))) == ["teacher"]
    assert stored_stages(build(document), Store(tmp_path)) == {}


def test_only_what_is_needed_runs(document: Document) -> None:
    recipe = build(document)
    assert needed_stages(recipe) == ["teacher", "slim", "proof"]
    assert needed_stages(recipe, ["slim"]) == ["teacher", "slim"]
    assert needed_stages(recipe, []) == []
    with pytest.raises(UsageError, match="no stage 'graph'"):
        needed_stages(recipe, ["graph"])


def test_a_stage_that_fails_leaves_nothing(document: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RecipeError("no")

    monkeypatch.setattr(artifact, "call_stage", fail)
    with pytest.raises(RecipeError):
        run_stages(build(document), Store(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_stage_that_another_thread_writes_is_waited_for(document: Document, store: Store) -> None:
    recipe, events, told = build(document, slim={"target_flops": 0.6}), [], threading.Event()

    def observe(event: StageEvent) -> None:
        events.append(event)
        if event.kind == "waiting":
            told.set()

    workspace = store.workspace(recipe)
    teacher = store.obtain(recipe.stages["teacher"], workspace)
    workspace.finish("teacher", teacher.folder, teacher.manifest)
    from compress.recipe.cache_key import cache_key

    key = cache_key(recipe.stages["slim"], workspace)
    stage = recipe.stages["slim"]
    with locks.locked(store.folder_of(stage, key)):
        waiting = threading.Thread(target=lambda: store.obtain(stage, workspace, observe))
        waiting.start()
        assert told.wait(60)
        artifact.write_stage(stage, workspace, store.folder_of(stage, key), key)
    waiting.join(60)
    assert kinds(events) == [("slim", "waiting"), ("slim", "reused")]


def _hold(folder: Path, ready: Any) -> None:
    with locks.locked(folder):
        ready.set()
        threading.Event().wait()


def test_a_stage_of_a_process_that_dies_is_taken_over(document: Document, tmp_path: Path) -> None:
    recipe, store, events = build(document), Store(tmp_path), []
    from compress.recipe.cache_key import cache_key

    stage, workspace = recipe.stages["teacher"], store.workspace(recipe)
    folder = store.folder_of(stage, cache_key(stage, workspace))
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=_hold, args=(folder, ready))
    other.start()
    assert ready.wait(60)

    def observe(event: StageEvent) -> None:
        events.append(event)
        if event.kind == "waiting":
            other.kill()

    taken = store.obtain(stage, workspace, observe)
    other.join()
    assert kinds(events) == [("teacher", "waiting"), ("teacher", "started"), ("teacher", "finished")]
    assert taken.ran


@pytest.mark.parametrize(
    ("name", "is_store"), [("finetune-0123456789abcdef", True), ("cache", True), ("Documents", False), ("model", False)]
)
def test_a_store_is_told_from_other_folders(tmp_path: Path, name: str, is_store: bool) -> None:
    Store(tmp_path / "new").check()
    Store(tmp_path).check()
    (tmp_path / name).mkdir()
    if is_store:
        Store(tmp_path).check()
        return
    with pytest.raises(UsageError, match="is no store of finished stages"):
        Store(tmp_path).check()
