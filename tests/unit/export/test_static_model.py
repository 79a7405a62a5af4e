"""A static model's graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core import artifacts, files
from compress.core.errors import UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.export.attention import GraphForm
from compress.export.builder import IR_VERSIONS
from compress.export.graph import build_graph
from compress.export.graph_editing import expose_values
from compress.inference.artifact import OnnxModel
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, run_arrays, session_forward
from compress.inference.openvino_session import has_openvino, openvino_forward
from compress.models.checkpoint import load_model
from compress.models.layout import GRAPH
from compress.models.static_model import bigram_buckets, bigram_multiplier
from tests import tiny
from tests.unit.export.test_recurrent import export


@pytest.mark.parametrize("opset", IR_VERSIONS)
@pytest.mark.parametrize("texts", [1, 2])
@pytest.mark.parametrize("target", ["class", "labels", "value"])
def test_the_graph_is_the_model(target: str, texts: int, opset: int) -> None:
    model, data = tiny.make_static(target=target, texts=texts), tiny.encoded(pairs=True)
    graph = build_graph(model, GraphForm(opset=opset))
    assert [entry.name for entry in graph.graph.input] == ["input_ids", "attention_mask"]
    assert [entry.name for entry in graph.graph.output] == ["logits"]
    forward = session_forward(open_session(graph.SerializeToString(), 1, "cpu", {}))
    np.testing.assert_allclose(run_batches(forward, data), run_batches(torch_forward(model), data), atol=1e-5)
    alone = np.concatenate([run_batches(forward, data.take([number])) for number in range(len(data))])
    np.testing.assert_allclose(run_batches(forward, data), alone, atol=1e-5)


@pytest.mark.parametrize("texts", [1, 2])
@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_inputs(length: int, texts: int) -> None:
    model = tiny.make_static(texts=texts)
    forward = session_forward(open_session(build_graph(model).SerializeToString(), 1, "cpu", {}))
    batch = {"input_ids": np.full((3, length), 9), "attention_mask": np.ones((3, length), dtype=np.int64)}
    np.testing.assert_allclose(forward(batch), torch_forward(model)(batch), atol=1e-5)


def test_bigrams_have_the_same_buckets() -> None:
    vocab_size = 250_002  # XLM-R's
    model = tiny.make_static(vocab_size=vocab_size, embedding_size=1)
    graph = expose_values(build_graph(model), ["bigrams.bucket"])
    ids = np.random.default_rng(0).integers(0, vocab_size, (4, 50))
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    (buckets,) = run_arrays(open_session(graph.SerializeToString(), 1, "cpu", {}), ["bigrams.bucket"], batch)
    assert (buckets == bigram_buckets(torch.from_numpy(ids), bigram_multiplier(vocab_size), 97).numpy()).all()


@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
def test_openvino_computes_the_same(tmp_path: Path) -> None:
    """It computes remainders in float32."""
    model = tiny.make_static(vocab_size=30_522, texts=2)
    (tmp_path / GRAPH).write_bytes(build_graph(model).SerializeToString())
    ids = np.random.default_rng(0).integers(0, 30_522, (4, 50))
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    np.testing.assert_allclose(openvino_forward(tmp_path, "fp32", "cpu", 1)(batch), torch_forward(model)(batch), atol=1e-5)


@pytest.mark.parametrize("target", ["class", "labels", "value"])
def test_an_artifact_is_written_and_verified(target: str, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    document = tiny_task if target == "class" else tiny.write_kind(tmp_path / "task", target)
    source = tiny.write_static(tmp_path / "model", target=target, labels=Task(resolve(document)).label_names)
    result = export(source, tmp_path / "out", document)
    assert result["verification"]["max_abs"] < 1e-4
    assert result["verification"]["agreement"] == 1
    assert (result["layers"], result["graph_inputs"]) == ([], ["input_ids", "attention_mask"])
    files.write_json(tmp_path / "out" / artifacts.MANIFEST, {"runtime": result["runtime"], "input_spec": result["input_spec"]})
    data = tiny.encoded()
    expected = run_batches(torch_forward(load_model(source)), data)
    np.testing.assert_allclose(run_batches(OnnxModel(tmp_path / "out").logits, data), expected, atol=1e-5)


def test_tuning_times_options_of_the_runtime_alone(tmp_path: Path) -> None:
    result = export(tiny.write_static(tmp_path / "model"), tmp_path / "out", tune=True, seq_len=[8])
    assert result["form"] == GraphForm().as_json()
    assert set(result["tuning"]["winner"]) >= {"fusions", "optimization"}


def test_forms_of_attention_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a static model has no attention"):
        export(tiny.write_static(tmp_path / "model"), tmp_path / "out", attention="mha")
