"""Which runtime takes which batch, and how graphs are opened."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core import artifacts, files
from compress.core.errors import ModelError, ResourceError, UsageError
from compress.export import RUNTIME_HINTS, write_artifact
from compress.export.graph import build_graph
from compress.inference import runtime as module
from compress.inference.artifact import OnnxModel, load_onnx
from compress.inference.runtime import beside_others, only, open_session, recorded_runtimes, routed
from compress.models.checkpoint import load_model
from compress.models.layout import OPENVINO_GRAPH
from tests import tiny

Maker = Callable[..., Path]
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")
BOTH = [{"up_to": 64, "runtime": "onnxruntime"}, {"up_to": None, "runtime": "openvino"}]


def write(checkpoint: Path, folder: Path, hints: dict[str, Any], **more: Any) -> Path:
    """Write an fp32 artifact with a manifest."""
    folder.mkdir()
    write_artifact(build_graph(load_model(checkpoint)), checkpoint, folder)
    files.write_json(folder / artifacts.MANIFEST, {"precision": "fp32", "runtime": hints, **more})
    return folder


def batch_of(rows: int, length: int) -> dict[str, np.ndarray]:
    """A batch of one word."""
    return {"input_ids": np.full((rows, length), 5, dtype=np.int64)}


@given(st.integers(1, 16), st.integers(1, 64), st.integers(1, 1024))
def test_batches_go_by_their_tokens(rows: int, length: int, limit: int) -> None:
    hints = {"routes": [{"up_to": limit, "runtime": "openvino"}, {"up_to": None, "runtime": "onnxruntime"}]}
    forward = routed(hints, lambda runtime: lambda batch: runtime)  # pyright: ignore[reportReturnType, reportArgumentType]
    assert forward(batch_of(rows, length)) == ("openvino" if rows * length <= limit else "onnxruntime")


def test_a_runtime_is_opened_when_its_first_batch_comes() -> None:
    opened: list[str] = []

    def opener(runtime: str) -> Any:
        opened.append(runtime)
        return lambda batch: runtime

    forward = routed({"routes": BOTH}, opener)
    assert opened == []
    assert [forward(batch_of(1, length)) for length in (8, 64, 65, 8)] == ["onnxruntime", "onnxruntime", "openvino", "onnxruntime"]
    assert opened == ["onnxruntime", "openvino"]
    routed({}, opener)
    assert opened[2:] == ["onnxruntime"]


@pytest.mark.parametrize(
    "recorded",
    [
        "openvino",
        [{"runtime": "openvino"}],
        [{"up_to": 3, "runtime": "openvino"}],
        [{"up_to": None, "runtime": "tflite"}],
        [{"up_to": None, "runtime": "openvino"}, {"up_to": 3, "runtime": "openvino"}],
        [{"up_to": "many", "runtime": "openvino"}],
        [7],
    ],
)
def test_routes_that_make_no_sense_are_told(recorded: Any) -> None:
    with pytest.raises(ModelError, match="not understood"):
        recorded_runtimes({"routes": recorded})


def test_recorded_runtimes() -> None:
    assert recorded_runtimes({}) == recorded_runtimes(RUNTIME_HINTS) == ["onnxruntime"]
    assert recorded_runtimes({"routes": only("openvino")}) == ["openvino"]
    assert recorded_runtimes({"routes": BOTH}) == ["onnxruntime", "openvino"]


@needs_openvino
def test_an_artifact_is_opened_in_what_it_records(checkpoint: Maker, tmp_path: Path) -> None:
    folder = write(checkpoint(), tmp_path / "a", {"routes": BOTH, "openvino": {"precision": "fp32"}})
    model, plain = load_onnx(folder), load_onnx(folder, runtime="onnxruntime")
    data = tiny.encoded("bert", 40)
    for positions in ([0], range(12)):
        batch = data.batch(positions)
        np.testing.assert_allclose(model.logits(batch), plain.logits(batch), atol=1e-4)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda _: model.logits(data.batch(range(12))), range(8)))
    assert all(np.array_equal(row, rows[0]) for row in rows)


@needs_openvino
def test_openvino_reads_its_own_graph_where_there_is_one(checkpoint: Maker, tmp_path: Path) -> None:
    folder = write(checkpoint(), tmp_path / "a", {"routes": only("openvino")})
    other = load_model(checkpoint())
    other.classifier.bias.data += 3
    (folder / OPENVINO_GRAPH).write_bytes(build_graph(other).SerializeToString())
    batch = tiny.encoded().batch([0, 1])
    found, plain = load_onnx(folder).logits(batch), load_onnx(folder, runtime="onnxruntime").logits(batch)
    np.testing.assert_allclose(found, plain + 3, atol=1e-4)


def test_openvino_that_is_missing_is_told_and_not_replaced(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(checkpoint(), tmp_path / "a", {"routes": BOTH})
    monkeypatch.setattr(module, "has_openvino", lambda: False)
    with pytest.raises(ResourceError, match="not installed") as caught:
        load_onnx(folder)("the red dog")
    assert "runtime='onnxruntime'" in (caught.value.hint or "")
    assert load_onnx(folder, runtime="onnxruntime")("the red dog")
    with pytest.raises(UsageError, match="no runtime 'tflite'"):
        load_onnx(folder, runtime="tflite")


def test_options_reach_the_session(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    folder = write(checkpoint(), tmp_path / "a", {})
    seen: dict[str, Any] = {}

    def fake(graph: str, options: Any, **given: Any) -> Any:
        seen.update(given, level=options.graph_optimization_level, spinning=options.get_session_config_entry(SPINNING))
        names = [entry[0] if isinstance(entry, tuple) else entry for entry in given["providers"]]
        return SimpleNamespace(get_providers=lambda: names)

    monkeypatch.setattr(onnxruntime, "InferenceSession", fake)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(module.PROVIDERS.values()))
    hints = {
        "disabled_optimizers": ["SkipLayerNormFusion"],
        "optimization": "basic",
        "session_config": {SPINNING: "0"},
        "provider_options": {"TensorrtExecutionProvider": {"trt_fp16_enable": "1"}},
    }
    open_session(folder / "model.onnx", 1, "cpu", hints)
    assert (seen["disabled_optimizers"], seen["providers"]) == (["SkipLayerNormFusion"], ["CPUExecutionProvider"])
    assert (seen["level"], seen["spinning"]) == (onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC, "0")
    open_session(folder / "model.onnx", 1, "tensorrt", hints)
    assert seen["disabled_optimizers"] is None  # they were measured on a CPU
    assert seen["providers"] == [("TensorrtExecutionProvider", {"trt_fp16_enable": "1"}), ("CUDAExecutionProvider", {"use_tf32": "0"})]


def test_a_gpu_is_onnx_runtimes_whatever_is_recorded_for_cpus(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(checkpoint(), tmp_path / "a", {"routes": only("openvino")})
    monkeypatch.setattr(OnnxModel, "opened", lambda self, runtime: runtime)
    assert OnnxModel(folder, device="cuda").logits == "onnxruntime"


SPINNING = "session.intra_op.allow_spinning"


def test_a_session_beside_others_stops_spinning_and_keeps_its_own_options() -> None:
    recorded = {"disabled_optimizers": ["X"], "session_config": {"session.intra_op.allow_spinning": "0"}}
    assert beside_others(recorded) == {
        "disabled_optimizers": ["X"],
        "session_config": {"session.intra_op.allow_spinning": "0", "session.force_spinning_stop": "1"},
    }
    assert len(recorded["session_config"]) == 1
