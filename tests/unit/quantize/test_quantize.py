"""The stage `quantize` on the tiny task."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compress.errors import DataError, GateMissed, ModelError
from compress.model.artifact import OnnxModel
from compress.model.scorer import score
from compress.settings import ExportSettings, QuantizeSettings
from compress.stage import Inputs
from compress.task import resolve
from compress.task.load import Task
from tests import tiny

Maker = Callable[..., Path]
module = importlib.import_module("compress.quantize")  # `compress.quantize` is the verb
export = importlib.import_module("compress.export").run


def run(source: Path, output: Path, document: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Run the stage."""
    output.mkdir()
    task = Task(resolve(document)) if document else None
    return module.run(Inputs({"model": source}, 0, task), QuantizeSettings(**settings), output)


@pytest.fixture
def graph(checkpoint: Maker, tmp_path: Path) -> Path:
    """An fp32 artifact of the tiny BERT."""
    (tmp_path / "graph").mkdir()
    export(Inputs({"model": checkpoint()}), ExportSettings(), tmp_path / "graph")
    return tmp_path / "graph"


def test_checkpoint_and_graph_give_the_same_artifact(checkpoint: Maker, graph: Path, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    first = run(checkpoint(), tmp_path / "a", tiny_task)
    second = run(graph, tmp_path / "b", tiny_task)
    data = tiny.encoded()
    np.testing.assert_array_equal(score(OnnxModel(tmp_path / "a").logits, data), score(OnnxModel(tmp_path / "b").logits, data))
    assert first["metrics"] == second["metrics"]
    assert first["precision"] == "int8"
    json.dumps(first)


def test_both_forms_are_measured(graph: Path, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    metrics = run(graph, tmp_path / "out", tiny_task)["metrics"]["validation"]
    assert metrics["n"] == 24
    assert metrics["drop_points"] == pytest.approx(100 * (metrics["float"] - metrics["accuracy"]))


def test_without_a_task_it_is_compared_on_samples(graph: Path, tmp_path: Path) -> None:
    result = run(graph, tmp_path / "out")
    assert result["metrics"] == {}
    assert result["verification"]["texts"] == "built-in samples"
    assert result["verification"]["against"] == "the float graph"


def test_the_gate(graph: Path, tiny_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Int8 gets every third example wrong: 33 points are lost, and more than that may be allowed."""

    def measure(*args: Any) -> dict[str, float]:
        return {"accuracy": next(answers)}

    monkeypatch.setattr(module, "measure", measure)
    answers = iter([0.9, 0.57] * 2)
    with pytest.raises(
        GateMissed, match=r"int8 loses 33\.00 points of accuracy on validation \(n = 24\), more than --max-drop 32\.5"
    ) as caught:
        run(graph, tmp_path / "a", tiny_task, max_drop=32.5)
    assert caught.value.exit_code == 6
    assert run(graph, tmp_path / "b", tiny_task, max_drop=33.5)["metrics"]["validation"]["drop_points"] == pytest.approx(33)


def test_a_drop_of_exactly_the_limit_passes(
    graph: Path, tiny_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([0.9, 0.88])
    monkeypatch.setattr(module, "measure", lambda *args: {"accuracy": next(answers)})
    run(graph, tmp_path / "out", tiny_task, max_drop=2.0)


def test_a_gain_passes_a_gate_of_zero(graph: Path, tiny_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([0.5, 0.6])
    monkeypatch.setattr(module, "measure", lambda *args: {"accuracy": next(answers)})
    assert run(graph, tmp_path / "out", tiny_task, max_drop=0.0)["metrics"]["validation"]["drop_points"] == pytest.approx(-10)


def test_quantizing_twice_is_refused(graph: Path, tmp_path: Path) -> None:
    run(graph, tmp_path / "int8")
    with pytest.raises(ModelError, match="is quantized already") as caught:
        run(tmp_path / "int8", tmp_path / "again")
    assert caught.value.exit_code == 4


def test_a_damaged_graph_is_a_model_error(graph: Path, tmp_path: Path) -> None:
    (graph / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError):
        run(graph, tmp_path / "out")


def test_a_model_of_another_task(own_checkpoint: Maker, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not know the label"):
        run(own_checkpoint(labels=["x", "y", "z"]), tmp_path / "out", tiny_task)


def test_the_artifact_is_whole_and_sound(graph: Path, tmp_path: Path) -> None:
    run(graph, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"}
    onnx.checker.check_model(str(tmp_path / "out" / "model.onnx"))
    assert (tmp_path / "out" / "model.onnx").stat().st_size < (graph / "model.onnx").stat().st_size
