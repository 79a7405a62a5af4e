"""The methods of the stage `quantize`: int4, fp16 and bf16, and int8 for GPUs."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compress.core.errors import GateMissed, ModelError
from compress.inference.artifact import OnnxModel
from compress.inference.batches import run_batches
from compress.inference.evaluator import Evaluator
from compress.models.checkpoint import load_model, save_model
from compress.models.layout import GRAPH
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny
from tests.unit.quantize.stage import run

Maker = Callable[..., Path]
export = importlib.import_module("compress.export").run
FORMATS = ["int4", "fp16", "bf16"]


@pytest.mark.parametrize("method", FORMATS)
def test_the_formats_of_a_task(graph: Path, tiny_task: dict[str, Any], method: str, tmp_path: Path) -> None:
    made = run(graph, tmp_path / "out", tiny_task, method=method, max_drop=60.0, report=True)
    assert (made["precision"], made["method"], made["calibration"]) == (method, method, None)
    assert made["weights"] == {"int4": "int4 in blocks of 32", "fp16": "float16", "bf16": "bfloat16"}[method]
    assert ("verification_openvino" in made) == ("openvino" in made["runtime"]) == (method == "bf16")
    assert made["metrics"]["validation"]["n"] == 24
    assert all(0 < entry["error"] < 0.5 and entry["range"] is None for entry in made["explain"])
    small = {entry["matmul"] for entry in made["explain"] if entry["float"]}
    assert small == ({"classifier"} if method == "bf16" else set())
    assert (tmp_path / "out" / GRAPH).stat().st_size < 0.75 * (graph / GRAPH).stat().st_size
    found = run_batches(OnnxModel(tmp_path / "out", hints={}).logits, tiny.encoded())
    assert np.isfinite(found).all()
    json.dumps(made)
    with pytest.raises(ModelError, match="is quantized already"):
        run(tmp_path / "out", tmp_path / "again")


@pytest.mark.parametrize(
    ("method", "target"), [("int4", "labels"), ("fp16", "value"), ("bf16", "tags"), ("int4", "span"), ("fp16", "span"), ("bf16", "span")]
)  # every format with one output and with two, every kind once
def test_the_formats_of_every_kind(method: str, target: Any, tmp_path: Path) -> None:
    document = tiny.write_kind(tmp_path / "data", target)
    labels = {"tags": ["animal", "colour", "food", "other"]}.get(target)
    source = tiny.write_checkpoint(tmp_path / "model", target=target, labels=labels)
    made = run(source, tmp_path / "out", document, method=method, max_drop=100.0)
    assert made["verification"]["max_abs"] < 2


@pytest.mark.parametrize("method", FORMATS)
def test_a_pruned_model(pruned: Path, method: str, tmp_path: Path) -> None:
    """Layers of their own sizes, heads and neurons that are no multiple of a block, and sublayers that are gone."""
    assert run(pruned, tmp_path / "out", method=method)["precision"] == method


@pytest.fixture
def pruned(own_checkpoint: Maker, tmp_path: Path) -> Path:
    """A checkpoint whose layers have different heads and neurons left, some none."""
    source = own_checkpoint()
    model = load_model(source)
    slice_model(model, [Kept([0, 2], [*range(5)]), Kept([], [*range(40)]), Kept([1], [])])
    (tmp_path / "pruned").mkdir()
    save_model(model, tmp_path / "pruned", source)
    return tmp_path / "pruned"


@pytest.mark.parametrize("method", FORMATS)
def test_the_gate_holds_every_format(
    graph: Path, tiny_task: dict[str, Any], method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([0.9, 0.5])
    monkeypatch.setattr(Evaluator, "score", lambda *args, **options: {"accuracy": next(answers)})
    with pytest.raises(GateMissed, match=rf"{method} loses 40\.00 points"):
        run(graph, tmp_path / "out", tiny_task, method=method, max_drop=1.0)


@pytest.mark.parametrize(("method", "expected"), [("int4", True), ("fp16", False)])
def test_embeddings_are_int8_by_row_in_int4(method: str, expected: bool, tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "model", vocab_size=1500)
    run(source, tmp_path / "out", method=method)
    names = {tensor.name for tensor in onnx.load(str(tmp_path / "out" / GRAPH)).graph.initializer}
    assert ("embeddings.word.int8" in names) is expected


def test_bf16_without_openvino_is_checked_in_part(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.import_module("compress.quantize.serving"), "has_openvino", lambda: False)
    made = run(graph, tmp_path / "out", method="bf16")
    assert "verification_openvino" not in made
    assert "routes" not in made["runtime"]
    assert "OpenVINO is not installed" in capsys.readouterr().err


def test_answers_that_are_no_numbers_are_refused(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = lambda batch: np.full((len(batch["input_ids"]), 3), np.inf, dtype=np.float32)  # noqa: E731
    monkeypatch.setattr(OnnxModel, "open_runtime", lambda model, runtime: broken)
    with pytest.raises(ModelError, match="the logits of the int4 graph are not finite"):
        run(graph, tmp_path / "out", method="int4")


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_static_for_a_gpu_is_symmetric_int8_with_float_biases(
    graph: Path, tiny_task: dict[str, Any], target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run(graph, tmp_path / "out", tiny_task, method="static", target=target, calib_samples=40)
    assert f"the graph is for {target}" in capsys.readouterr().err
    assert (made["target"], made["instruction_sets"], made["runtime"]) == ({"name": target, "here": False}, [target], {})
    model = onnx.load(str(tmp_path / "out" / GRAPH))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = tensors[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
    scales = [tensors[node.input[1]] for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in tensors]
    assert scales
    assert all(scale.ndim == 1 for scale in scales)  # of each output channel
    assert made["verification"]["agreement"] > 0.8


def test_auto_warns_of_a_calibration_that_it_does_not_do(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = run(graph, tmp_path / "out", method="auto", calib_method="mse", calib_samples=16)
    assert made["method"] == "dynamic"
    assert "ignored: --calib-method, --calib-samples; method auto is dynamic here" in capsys.readouterr().err
    run(graph, tmp_path / "other", method="auto")
    assert "ignored" not in capsys.readouterr().err
