"""A BiLSTM's graph."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core import artifacts, files
from compress.core.errors import UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.export.attention import GraphForm
from compress.export.builder import IR_VERSIONS
from compress.export.graph import build_graph
from compress.inference.artifact import OnnxModel
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.checkpoint import load_model
from compress.settings import ExportSettings
from compress.stage import Inputs
from tests import tiny

TARGETS = ["class", "labels", "value", "tags", "span"]
module = importlib.import_module("compress.export")  # `compress.export` is the verb


def export(source: Path, output: Path, document: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    """Run the stage."""
    output.mkdir()
    task = Task(resolve(document)) if document else None
    return module.run(Inputs({"model": source}, 0, task), ExportSettings.model_validate(settings), output)


@pytest.mark.parametrize("opset", IR_VERSIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_the_graph_is_the_model(target: str, opset: int) -> None:
    model, data = tiny.make_bilstm(target=target), tiny.encoded(pairs=True)
    graph = build_graph(model, GraphForm(opset=opset))
    assert [entry.name for entry in graph.graph.input] == ["input_ids", "attention_mask"]
    outputs = ["start_logits", "end_logits"] if target == "span" else ["logits"]
    assert [entry.name for entry in graph.graph.output] == outputs
    forward = session_forward(open_session(graph.SerializeToString(), 1, "cpu", {}))
    np.testing.assert_allclose(run_batches(forward, data), run_batches(torch_forward(model), data), atol=1e-5)
    alone = np.concatenate([run_batches(forward, data.take([number])) for number in range(len(data))])
    np.testing.assert_allclose(run_batches(forward, data), alone, atol=1e-5)


@pytest.mark.parametrize("target", TARGETS)
def test_an_artifact_is_written_and_verified(target: str, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    document = tiny_task if target == "class" else tiny.write_kind(tmp_path / "task", target)
    source = tiny.write_bilstm(tmp_path / "model", target=target, labels=Task(resolve(document)).label_names)
    result = export(source, tmp_path / "out", document)
    assert result["verification"]["max_abs"] < 1e-4
    assert result["verification"]["agreement"] == 1
    assert (result["layers"], result["graph_inputs"]) == ([], ["input_ids", "attention_mask"])
    files.write_json(tmp_path / "out" / artifacts.MANIFEST, {"runtime": result["runtime"], "input_spec": result["input_spec"]})
    data = tiny.encoded()
    expected = run_batches(torch_forward(load_model(source)), data)
    np.testing.assert_allclose(run_batches(OnnxModel(tmp_path / "out").logits, data), expected, atol=1e-5)


def test_tuning_times_options_of_the_runtime_alone(tmp_path: Path) -> None:
    result = export(tiny.write_bilstm(tmp_path / "model"), tmp_path / "out", tune=True, seq_len=[8])
    assert result["form"] == GraphForm().as_json()
    assert set(result["tuning"]["winner"]) >= {"fusions", "optimization"}


@pytest.mark.parametrize("attention", ["plain", "mha"])
def test_forms_of_attention_are_refused(attention: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no attention"):
        export(tiny.write_bilstm(tmp_path / "model"), tmp_path / "out", attention=attention)
