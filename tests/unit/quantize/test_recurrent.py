"""A BiLSTM in int8."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compress.core.errors import ModelError, UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.export.graph import build_graph
from compress.inference.artifact import OnnxModel
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.models.layout import GRAPH
from compress.quantize.dynamic import count_quantized, dynamic_graph
from tests import tiny
from tests.unit.quantize.stage import run

WORDS = 1200  # enough for embeddings in int8


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A BiLSTM of the tiny task."""
    return tiny.write_bilstm(tmp_path / "model", vocab_size=WORDS)


@pytest.mark.parametrize("target", ["class", "labels", "value", "tags", "span"])
def test_int8_is_close_to_the_model(target: str, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    document = tiny_task if target == "class" else tiny.write_kind(tmp_path / "task", target)
    names = Task(resolve(document)).label_names
    source = tiny.write_bilstm(tmp_path / "model", target=target, labels=names, vocab_size=WORDS)
    result = run(source, tmp_path / "out", document)
    assert (result["precision"], result["method"], result["layers"]) == ("int8", "dynamic", [])
    data = tiny.encoded()
    expected, found = (run_batches(forward, data) for forward in (torch_forward(load_model(source)), OnnxModel(tmp_path / "out").logits))
    assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)


def test_every_weight_and_the_words_are_int8(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out")
    graph = onnx.load(str(tmp_path / "out" / GRAPH))
    operators = [node.op_type for node in graph.graph.node]
    assert count_quantized(graph) == (3, 0)  # the LSTM, the hidden layer and the head
    assert "DynamicQuantizeLSTM" in operators
    assert "LSTM" not in operators
    matrices = [tensor for tensor in graph.graph.initializer if len(tensor.dims) > 1 and np.prod(tensor.dims) > WORDS]
    assert matrices
    assert all(tensor.data_type == onnx.TensorProto.INT8 for tensor in matrices)


def test_what_is_kept_in_float_stays_so() -> None:
    plain = build_graph(tiny.make_bilstm())
    for floats, expected in ((["lstm"], (2, 1)), (["dense", "classifier"], (1, 2)), (["lstm", "dense", "classifier"], (0, 3))):
        assert count_quantized(dynamic_graph(plain, True, floats)) == expected


def test_auto_is_dynamic_with_a_task_too(source: Path, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    result = run(source, tmp_path / "out", tiny_task, method="auto", max_drop=100, report=True)
    assert (result["method"], result["calibration"]) == ("dynamic", None)
    assert "drop_points" in result["metrics"]["validation"]
    assert [entry["matmul"] for entry in result["explain"]] == ["dense", "classifier"]


@pytest.mark.parametrize("method", ["fp16", "bf16"])
def test_half_precision(method: str, source: Path, tmp_path: Path) -> None:
    result = run(source, tmp_path / "out", method=method)
    assert result["precision"] == method
    assert result["verification"]["max_abs"] < 0.1


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "static"},
        {"method": "smooth"},
        {"method": "int4"},
        {"method": "auto", "target": "tensorrt"},
        {"method": "auto", "runtime": "openvino"},
    ],
    ids=str,
)
def test_other_methods_are_usage_errors(settings: dict[str, Any], source: Path, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a BiLSTM supports dynamic int8 only") as caught:
        run(source, tmp_path / "out", tiny_task, **settings)
    assert caught.value.exit_code == 2


def test_what_is_quantized_is_not_quantized_again(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "int8")
    with pytest.raises(ModelError, match="is quantized already"):
        run(tmp_path / "int8", tmp_path / "out")


def test_the_root_logger_is_left_as_it_was() -> None:
    before = logging.root.level
    dynamic_graph(build_graph(tiny.make_bilstm()), True)
    assert logging.root.level == before
