"""A static model in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compress.core.errors import ModelError, UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.inference.artifact import OnnxModel
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.models.layout import GRAPH
from compress.quantize.dynamic import count_quantized
from tests import tiny
from tests.unit.quantize.stage import run

SIZES = {"vocab_size": 1200, "bigram_buckets": 1500}  # enough for tables in int8


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A static model of the tiny task."""
    return tiny.write_static(tmp_path / "model", **SIZES)


@pytest.mark.parametrize("texts", [1, 2])
@pytest.mark.parametrize("target", ["class", "labels", "value"])
def test_int8_is_close_to_the_model(target: str, texts: int, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    document = tiny_task if target == "class" else tiny.write_kind(tmp_path / "task", target)
    names = Task(resolve(document)).label_names
    source = tiny.write_static(tmp_path / "model", target=target, labels=names, texts=texts, **SIZES)
    result = run(source, tmp_path / "out", document)
    assert (result["precision"], result["method"], result["layers"]) == ("int8", "dynamic", [])
    data = tiny.encoded(pairs=True)
    expected, logits = (run_batches(forward, data) for forward in (torch_forward(load_model(source)), OnnxModel(tmp_path / "out").logits))
    assert np.linalg.norm(logits - expected) < 0.05 * np.linalg.norm(expected)


def test_the_tables_are_int8_and_the_matmuls_stay_float(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "out")
    graph = onnx.load(str(tmp_path / "out" / GRAPH))
    assert count_quantized(graph) == (0, 2)
    large = [tensor for tensor in graph.graph.initializer if len(tensor.dims) > 1 and tensor.dims[0] > 1000 and tensor.dims[1] > 1]
    assert [tensor.data_type for tensor in large] == [onnx.TensorProto.INT8] * 2


def test_auto_is_dynamic_with_a_task_too(source: Path, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    result = run(source, tmp_path / "out", tiny_task, method="auto", max_drop=100, report=True)
    assert (result["method"], result["calibration"]) == ("dynamic", None)
    assert "drop_points" in result["metrics"]["validation"]


@pytest.mark.parametrize("method", ["fp16", "bf16"])
def test_half_precision(method: str, source: Path, tmp_path: Path) -> None:
    result = run(source, tmp_path / "out", method=method)
    assert result["precision"] == method
    assert result["verification"]["max_abs"] < 0.1


@pytest.mark.parametrize(
    "settings",
    [{"method": "static"}, {"method": "smooth"}, {"method": "int4"}, {"method": "auto", "runtime": "openvino"}],
    ids=str,
)
def test_other_methods_are_usage_errors(settings: dict[str, Any], source: Path, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a static model supports dynamic int8 only") as caught:
        run(source, tmp_path / "out", tiny_task, **settings)
    assert caught.value.exit_code == 2


def test_what_is_quantized_is_not_quantized_again(source: Path, tmp_path: Path) -> None:
    run(source, tmp_path / "int8")
    with pytest.raises(ModelError, match="is quantized already"):
        run(tmp_path / "int8", tmp_path / "out")
