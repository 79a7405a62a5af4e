"""What `auto` refuses before any work, and what it knows before the first stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

import compress
from compress import api
from compress.core import files
from compress.core.errors import CompressError, ModelError, UsageError
from compress.data.presets import resolve
from compress.data.sources import DatasetSource
from compress.search import setup
from compress.search.costs import SearchCosts
from compress.search.prepare import Prepared, Question, prepare
from compress.search.store import Store
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
    with pytest.raises(UsageError, match="a budget of 5.0 s is less than .* for fine-tuning for 1 epoch, the baseline in int8") as caught:
        compress.auto(*inputs, tmp_path / "out", max_drop=1.0, budget="5s")
    assert (caught.value.hint or "").startswith("type --budget ")
    assert not (tmp_path / "out").exists()


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
    with pytest.raises(ModelError, match="cannot be pruned or trained"):
        compress.auto(model, task, tmp_path / "out", max_drop=1.0, teacher=graph)
    with pytest.raises(ModelError, match="is not fine-tuned for this task"):
        compress.auto(model, task, tmp_path / "out", max_drop=1.0, teacher=model)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": {"text": ["txet"]}}, CompressError, "did you mean 'text'"),
        ({"store": "home"}, UsageError, "is no store of finished stages"),
        ({"store": "home/notes.txt"}, UsageError, "is a file"),
        ({"ray": "loacl"}, CompressError, "did you mean 'local'|package ray"),
        ({"ray": "127.0.0.1:1"}, CompressError, "cannot connect to the Ray cluster|package ray"),
        ({"unlabeled": "nowhere.txt"}, CompressError, "nowhere"),
    ],
)
def test_a_mistake_leaves_nothing(
    tmp_path: Path, inputs: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], error: type, message: str
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "notes.txt").write_text("mine", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    model, task = inputs
    with pytest.raises(error, match=message):
        compress.auto(model, {**task, **options.pop("task", {})}, tmp_path / "out", max_drop=1.0, **options)
    assert sorted(tmp_path.rglob("*")) == before


def prepared(inputs: tuple[Path, dict[str, Any]], output: Path, store: Path | None = None, **changes: Any) -> Prepared:
    """Return a search before its first stage."""
    model, task = inputs
    output.mkdir(exist_ok=True)
    question = Question(
        str(model), resolve(task | changes.pop("task", {})), AutoSettings.model_validate({"max_drop": 1.0}), 0, changes.pop("teacher", "")
    )
    return prepare(question, output, Store(store or output / "stages"))


@pytest.fixture
def _known_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "machine_scale", lambda folder, task, tokens: 1.0)


@pytest.mark.usefixtures("_known_scale")
def test_a_teacher_is_named_from_any_folder(tmp_path: Path, inputs: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The recipe of the answer lies in another folder; and `teacher` is a stage, too."""
    tiny.write_checkpoint(tmp_path / "teacher")
    monkeypatch.chdir(tmp_path)
    search = prepared(inputs, tmp_path / "out", teacher="./teacher").search
    assert search.trials.space.teacher == str(tmp_path / "teacher")


@pytest.mark.usefixtures("_known_scale")
def test_costs_are_those_of_one_model_and_task(tmp_path: Path, inputs: tuple[Path, dict[str, Any]]) -> None:
    store = tmp_path / "shared"
    first, again, other = (
        prepared(inputs, tmp_path / name, store, task=task).learned for name, task in (("a", {}), ("b", {}), ("c", {"max_length": 16}))
    )
    assert first == again
    assert first != other
    costs = SearchCosts()
    costs.learn("bench", 0, 99.0)
    store.mkdir()
    files.write_json(first, costs.as_json())
    assert prepared(inputs, tmp_path / "d", store).search.trials.costs.predict("bench") == 99.0
    assert prepared(inputs, tmp_path / "e", store, task={"max_length": 16}).search.trials.costs.predict("bench") < 99.0


@pytest.mark.usefixtures("_known_scale")
def test_the_ledger_of_another_store_is_not_read(tmp_path: Path, inputs: tuple[Path, dict[str, Any]]) -> None:
    lab = prepared(inputs, tmp_path / "out").lab
    lab.ledger.entries["key"] = {"reused": True, "seconds": 0.1}
    lab.ledger.save()
    assert prepared(inputs, tmp_path / "out").lab.ledger.resumed
    assert not prepared(inputs, tmp_path / "out", tmp_path / "shared").lab.ledger.resumed


@pytest.mark.usefixtures("_known_scale")
def test_preparing_writes_nothing_and_plans_the_least(tmp_path: Path, inputs: tuple[Path, dict[str, Any]]) -> None:
    ready = prepared(inputs, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
    assert [step.kind for step in ready.steps] == ["start", "train", "quantize", "eval", "bench", "eval", "finish"]
    assert "the least takes about" in ready.plan()[-1]


@pytest.mark.usefixtures("_known_scale")
def test_a_plan_writes_nothing(tmp_path: Path, inputs: tuple[Path, dict[str, Any]]) -> None:
    plan = api.plan_auto(*inputs, tmp_path / "out", max_drop=1.0, budget="1h")
    assert list(tmp_path.iterdir()) == []
    assert plan["least_seconds"] == sum(step["seconds"] for step in plan["start"])
    assert [step["what"].partition(":")[0].partition(",")[0] for step in plan["later"]] == [
        "a static student",
        "pruning to 6 sizes",
        "a first unit of training",
        "a size in its final form",
    ]
    with pytest.raises(UsageError, match="a budget of 5.0 s"):
        api.plan_auto(*inputs, tmp_path / "out", max_drop=1.0, budget="5s")


@pytest.mark.usefixtures("_known_scale")
def test_dataset_objects_are_read_and_digested_once(
    tmp_path: Path, inputs: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    digest = DatasetSource.digest

    def counted(source: DatasetSource, columns: list[str]) -> object:
        calls.append("digest")
        return digest(source, columns)

    monkeypatch.setattr(DatasetSource, "digest", counted)
    model, task = inputs
    files = {split: task[split] for split in ("train", "validation", "test")}
    data = {split: datasets.Dataset.from_pandas(pd.read_json(path, lines=True)) for split, path in files.items()}
    with_objects = {key: value for key, value in task.items() if key not in files} | {"data": data}
    ready = prepare(
        Question(str(model), resolve(with_objects), AutoSettings.model_validate({"max_drop": 1.0}), 0, ""),
        tmp_path / "out",
        Store(tmp_path / "stages"),
    )
    name = ready.search.trials.space.add_baseline(1)
    for _ in range(3):
        ready.lab.reused(ready.search.trials.space.needed(name), name)
    assert len(calls) == 3  # one for each split


@pytest.mark.parametrize("missing", ["model", "unlabeled", "teacher"])
def test_what_is_missing_is_named(tmp_path: Path, inputs: tuple[Path, dict[str, Any]], missing: str) -> None:
    model, task = inputs
    settings: dict[str, Any] = {"max_drop": 1.0} | ({missing: str(tmp_path / "nowhere")} if missing != "model" else {})
    with pytest.raises(CompressError, match="nowhere"):
        compress.auto(tmp_path / "nowhere" if missing == "model" else model, task, tmp_path / "out", **settings)
    with pytest.raises(UsageError, match="a budget of 1.0 s"):  # nothing that was left behind hinders the next call
        compress.auto(model, task, tmp_path / "out", max_drop=1.0, budget="1s")
