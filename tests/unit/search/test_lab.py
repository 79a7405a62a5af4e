"""The ledger of a search: its time counts on across interruptions, and what other searches have run costs nothing."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from compress.core import machine
from compress.core.errors import UsageError
from compress.data.presets import resolve
from compress.search.costs import SearchCosts
from compress.search.executor import JobObserver, LocalExecutor, Outcome
from compress.search.jobs import JobGraph
from compress.search.lab import Ledger, StoreLab
from compress.search.space import Stages
from compress.search.store import Store
from tests.unit.search.recipes import STAGES, write_document

NAMES = ("teacher", "slim", "proof")


def begin() -> tuple[float, float, Any]:
    return 4.0, 2.0, SearchCosts().as_json()


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_document(tmp_path_factory.mktemp("lab"))


def lab_of(folder: Path, document: dict[str, Any], asked: str = "a", store: Path | None = None) -> StoreLab:
    folder.mkdir(exist_ok=True)
    ledger = Ledger.open(folder / "search.json", asked, begin)
    return StoreLab(Store(store or folder / "stages"), ledger, document["model"], resolve(document["task"]), 3, "auto")


def run_all(lab: StoreLab) -> list[float]:
    """Run the stages; returns the time of the search after each."""
    stages: Stages = {name: dict(STAGES[name]) for name in NAMES}
    times = []
    for name in NAMES:
        lab.run(stages, name)
        times.append(lab.spent())
    return times


def test_a_resumed_search_sees_the_same_times(tmp_path: Path, document: dict[str, Any]) -> None:
    first = run_all(lab_of(tmp_path / "out", document))
    assert first == sorted(first)
    assert first[0] > 4.0
    again = lab_of(tmp_path / "out", document)
    assert again.ledger.resumed
    assert again.spent() == 4.0
    assert run_all(again) == first
    assert again.ledger.scale == 2.0


def test_another_question_begins_a_new_ledger_and_reuses_the_store(tmp_path: Path, document: dict[str, Any]) -> None:
    first = lab_of(tmp_path / "out", document)
    stages: Stages = {name: dict(STAGES[name]) for name in NAMES}
    assert not first.reused(stages, "teacher")
    run_all(first)
    assert first.reused_seconds() == 0.0
    assert not first.reused(stages, "teacher")  # this very search has run it
    other = lab_of(tmp_path / "out", document, asked="b")
    assert not other.ledger.resumed
    assert other.reused(stages, "teacher")
    assert not other.reused(stages, "slim")  # unknown until its input is there
    run_all(other)
    assert other.reused(stages, "slim")
    assert other.reused_seconds() > 0
    assert other.spent() - 4.0 < first.spent() - 4.0
    assert other.seconds_of("teacher") == first.finished["teacher"].seconds


def test_a_stage_that_was_killed_counts_what_its_training_took(tmp_path: Path, document: dict[str, Any]) -> None:
    lab = lab_of(tmp_path / "out", document)
    run_all(lab)
    key = lab.finished["teacher"].manifest.get("key", "")
    lab.ledger.entries[key]["seconds"] = None  # as a killed process leaves it
    lab.ledger.save()
    again = lab_of(tmp_path / "out", document)
    run_all(again)
    training = lab.finished["teacher"].manifest["training"]["seconds"]  # type: ignore[typeddict-item]
    entry = again.ledger.entries[key]["seconds"]
    assert entry is not None
    assert entry >= training


def test_a_stage_whose_end_was_not_noted_counts_what_it_took(tmp_path: Path, document: dict[str, Any]) -> None:
    """The process was killed between the end of a stage that trains nothing and the next line of the ledger."""
    lab = lab_of(tmp_path / "out", document)
    run_all(lab)
    done = lab.finished["proof"]
    lab.ledger.entries[done.manifest.get("key", "")]["seconds"] = None
    lab.ledger.save()
    again = lab_of(tmp_path / "out", document)
    before, *_, after = run_all(again)[1:]
    assert after - before >= done.seconds


def test_a_failed_stage_has_spent_its_time(tmp_path: Path, document: dict[str, Any]) -> None:
    lab = lab_of(tmp_path / "out", document)
    stages: Stages = {
        "teacher": dict(STAGES["teacher"]),
        "slim": {"do": "prune", "from": "teacher", "target_flops": 1e-6, "steps": 1, "device": "cpu"},
    }
    lab.run(stages, "teacher")
    before = lab.spent()
    with pytest.raises(UsageError):
        lab.run(stages, "slim")
    assert lab.spent() > before


def test_what_was_timed_outside_of_stages_is_not_timed_again(tmp_path: Path, document: dict[str, Any]) -> None:
    first = lab_of(tmp_path / "out", document)
    assert first.timed("shapes", lambda: {"layers=2": [2.5, 1000]}) == {"layers=2": [2.5, 1000]}
    again = lab_of(tmp_path / "out", document)
    assert again.spent() == 4.0
    assert again.timed("shapes", lambda: {"layers=2": [9.9, 1000]}) == {"layers=2": [2.5, 1000]}
    assert again.spent() == first.spent() > 4.0


def test_what_is_gone_from_the_store_counts_again(tmp_path: Path, document: dict[str, Any]) -> None:
    run_all(lab_of(tmp_path / "out", document))
    for folder in (tmp_path / "out" / "stages").glob("prune-*"):
        shutil.rmtree(folder)
    again = lab_of(tmp_path / "out", document)
    for entry in again.ledger.entries.values():
        entry["seconds"] = 1000.0
    times = run_all(again)
    assert times[0] >= 1000  # found
    assert times[1] - times[0] < 500  # run again
    assert times[2] - times[1] >= 1000


def test_a_reused_stage_that_is_gone_is_not_free(tmp_path: Path, document: dict[str, Any]) -> None:
    run_all(lab_of(tmp_path / "first", document, store=tmp_path / "shared"))
    stages: Stages = {name: dict(STAGES[name]) for name in NAMES}
    second = lab_of(tmp_path / "second", document, "b", tmp_path / "shared")
    assert second.stored(stages) == set(NAMES)
    run_all(second)
    shutil.rmtree(tmp_path / "shared")
    again = lab_of(tmp_path / "second", document, "b", tmp_path / "shared")
    assert again.ledger.resumed
    assert not again.reused(stages, "teacher")
    assert again.stored(stages) == set()
    run_all(again)
    assert not any(entry["reused"] for entry in again.ledger.entries.values())


def test_what_happens_between_stages_counts(tmp_path: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lab_of(tmp_path / "out", document)
    stages: Stages = {name: dict(STAGES[name]) for name in NAMES}
    lab.run(stages, "teacher")
    before, clock = lab.spent(), time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 100)
    lab.run(stages, "slim")
    assert lab.spent() - before >= 100
    assert lab.seconds_of("slim") < 100


def test_nothing_is_written_before_the_first_stage(tmp_path: Path, document: dict[str, Any]) -> None:
    lab_of(tmp_path / "out", document)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_damaged_ledger_is_begun_anew(tmp_path: Path, document: dict[str, Any]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "search.json").write_text('{"schema": 1, "asked": "a"}', encoding="utf-8")
    assert lab_of(tmp_path / "out", document).spent() == 4.0


def test_a_stage_may_run_on_another_kind_of_machine(tmp_path: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key there differs from the one here, so that it is not found by that."""

    class Elsewhere(LocalExecutor):
        def run(self, graph: JobGraph, store: Store, observer: JobObserver) -> dict[str, Outcome]:
            """As on a node with another processor."""
            with monkeypatch.context() as there:
                there.setattr(machine, "identity", lambda: ["another processor"])
                return super().run(graph, Store(store.folder), observer)

    lab = lab_of(tmp_path / "out", document)
    lab.executor = Elsewhere()
    run_all(lab)
    assert lab.finished["slim"].ran
    assert lab.finished["proof"].manifest.get("metrics")


def test_stages_run_where_the_executor_does(tmp_path: Path, document: dict[str, Any]) -> None:
    ran: list[str] = []

    class Elsewhere(LocalExecutor):
        def run(self, graph: JobGraph, store: Store, observer: JobObserver) -> dict[str, Outcome]:
            """As the store of another process would."""
            ran.append(list(graph.jobs.values())[-1].name)
            return super().run(graph, Store(store.folder), observer)

    here, there = lab_of(tmp_path / "here", document), lab_of(tmp_path / "there", document)
    there.executor = Elsewhere()
    run_all(here)
    run_all(there)
    assert ran == list(NAMES)
    assert {name: done.manifest["digest"] for name, done in there.finished.items()} == {
        name: done.manifest["digest"] for name, done in here.finished.items()
    }
    run_all(there)
    assert ran == list(NAMES)
    impossible: Stages = {"teacher": dict(STAGES["teacher"]), "slim": {"do": "prune", "from": "teacher", "target_speedup": 99.0}}
    with pytest.raises(UsageError):
        there.run(impossible, "slim")
