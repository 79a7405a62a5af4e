"""What `auto` refuses before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import compress
from compress.core.errors import CompressError, ModelError, UsageError
from compress.search import setup
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


@pytest.mark.parametrize("missing", ["model", "unlabeled", "teacher"])
def test_what_is_missing_is_named(tmp_path: Path, inputs: tuple[Path, dict[str, Any]], missing: str) -> None:
    model, task = inputs
    settings: dict[str, Any] = {"max_drop": 1.0} | ({missing: str(tmp_path / "nowhere")} if missing != "model" else {})
    with pytest.raises(CompressError, match="nowhere"):
        compress.auto(tmp_path / "nowhere" if missing == "model" else model, task, tmp_path / "out", **settings)
    with pytest.raises(UsageError, match="too small"):  # nothing that was left behind hinders the next call
        compress.auto(model, task, tmp_path / "out", max_drop=1.0, budget="1s")
