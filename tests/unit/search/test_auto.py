"""What `auto` refuses before any work, and what it knows before the first stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import compress
from compress.core import files
from compress.core.errors import CompressError, ModelError, UsageError
from compress.data.presets import resolve
from compress.search import setup
from compress.search.auto import Question, _prepare
from compress.search.costs import SearchCosts
from compress.search.lab import StoreLab
from compress.search.store import Store
from compress.search.strategy import Search
from compress.settings.auto import AutoSettings
from tests import tiny


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("auto")
    return tiny.write_encoder(folder / "encoder"), tiny.write_task(folder / "task", 60, 50, 50)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "exactly one objective"),
        ({"max_drop": 1.0, "target_latency_ms": 2.0}, "exactly one objective"),
        ({"target_latency_ms": 2.0, "smallest": True}, "smallest goes with max_drop"),
        ({"target_latency_ms": 2.0, "confidence": 0.9}, "confidence goes with max_drop"),
        ({"max_drop": 1.0, "confidence": 0.4}, "confidence"),
        ({"max_drop": 1.0, "budget": "soon"}, "budget"),
        ({"max_drop": -1.0}, "max_drop"),
        ({"target_latency_ms": 0.0}, "target_latency_ms"),
        ({"max_drop": 1.0, "runtime": "tensorrt"}, "runtime"),
        ({"max_drop": 1.0, "speedup": 3}, "unknown key 'speedup'"),
    ],
)
def test_settings_that_mean_nothing(tmp_path: Path, inputs: tuple[Path, dict[str, Any]], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compress.auto(*inputs, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_budget_too_small_to_fine_tune(tmp_path: Path, inputs: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "machine_scale", lambda folder, task, tokens: 1.0)
    with pytest.raises(UsageError, match="fine-tuning for 1 epoch and measuring the result would take about"):
        compress.auto(*inputs, tmp_path / "out", max_drop=1.0, budget="5s")


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, inputs: tuple[Path, dict[str, Any]]) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="holds no search"):
        compress.auto(*inputs, tmp_path, max_drop=1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_graph_cannot_be_pruned(tmp_path: Path, inputs: tuple[Path, dict[str, Any]]) -> None:
    model, task = inputs
    graph = tmp_path / "graph"
    compress.export(tiny.write_checkpoint(tmp_path / "model"), graph)
    with pytest.raises(ModelError, match="cannot be pruned or trained"):
        compress.auto(graph, task, tmp_path / "out", max_drop=1.0)
    assert model.is_dir()


def prepared(inputs: tuple[Path, dict[str, Any]], output: Path, store: Path | None = None, **changes: Any) -> tuple[Search, StoreLab, Path]:
    """Return a search before its first stage."""
    model, task = inputs
    output.mkdir(exist_ok=True)
    question = Question(
        str(model), resolve(task | changes.pop("task", {})), AutoSettings.model_validate({"max_drop": 1.0}), 0, changes.pop("teacher", "")
    )
    return _prepare(question, output, Store(store or output / "stages"))


@pytest.fixture
def _known_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "machine_scale", lambda folder, task, tokens: 1.0)


@pytest.mark.usefixtures("_known_scale")
def test_a_teacher_is_named_from_any_folder(tmp_path: Path, inputs: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of the answer lies in another folder; and `teacher` is a stage, too."""
    tiny.write_checkpoint(tmp_path / "teacher")
    monkeypatch.chdir(tmp_path)
    search, _, _ = prepared(inputs, tmp_path / "out", teacher="./teacher")
    assert search.trials.space.teacher == str(tmp_path / "teacher")


@pytest.mark.usefixtures("_known_scale")
def test_costs_are_those_of_one_model_and_task(tmp_path: Path, inputs: tuple[Path, dict[str, Any]]) -> None:
    store = tmp_path / "shared"
    first, again, other = (
        prepared(inputs, tmp_path / name, store, task=task)[2] for name, task in (("a", {}), ("b", {}), ("c", {"max_length": 16}))
    )
    assert first == again
    assert first != other
    costs = SearchCosts()
    costs.learn("bench", 0, 99.0)
    files.write_json(first, costs.as_json())
    assert prepared(inputs, tmp_path / "d", store)[0].trials.costs.predict("bench") == 99.0
    assert prepared(inputs, tmp_path / "e", store, task={"max_length": 16})[0].trials.costs.predict("bench") < 99.0


@pytest.mark.usefixtures("_known_scale")
def test_the_ledger_of_another_store_is_not_read(tmp_path: Path, inputs: tuple[Path, dict[str, Any]]) -> None:
    _, lab, _ = prepared(inputs, tmp_path / "out")
    lab.ledger.entries["key"] = {"reused": True, "seconds": 0.1}
    lab.ledger.save()
    assert prepared(inputs, tmp_path / "out")[1].ledger.resumed
    assert not prepared(inputs, tmp_path / "out", tmp_path / "shared")[1].ledger.resumed


@pytest.mark.parametrize("missing", ["model", "unlabeled", "teacher"])
def test_what_is_missing_is_named(tmp_path: Path, inputs: tuple[Path, dict[str, Any]], missing: str) -> None:
    model, task = inputs
    settings: dict[str, Any] = {"max_drop": 1.0} | ({missing: str(tmp_path / "nowhere")} if missing != "model" else {})
    with pytest.raises(CompressError, match="nowhere"):
        compress.auto(tmp_path / "nowhere" if missing == "model" else model, task, tmp_path / "out", **settings)
    with pytest.raises(UsageError, match="too small"):  # nothing that was left behind hinders the next call
        compress.auto(model, task, tmp_path / "out", max_drop=1.0, budget="1s")
