"""Which runtime gets which batch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core import artifacts, files
from compress.core.errors import ModelError, ResourceError, UsageError
from compress.export import RUNTIME_HINTS, write_artifact
from compress.export.graph import build_graph
from compress.inference import routes as module
from compress.inference.artifact import OnnxModel, load_onnx
from compress.inference.routes import recorded_runtimes, routed_forward, single_route
from compress.models.checkpoint import load_model
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
    """Return a batch of one repeated token."""
    return {"input_ids": np.full((rows, length), 5, dtype=np.int64)}


@given(st.integers(1, 16), st.integers(1, 64), st.integers(1, 1024))
def test_batches_go_by_their_tokens(rows: int, length: int, limit: int) -> None:
    hints = {"routes": [{"up_to": limit, "runtime": "openvino"}, {"up_to": None, "runtime": "onnxruntime"}]}
    forward = routed_forward(hints, lambda runtime: lambda batch: runtime)  # pyright: ignore[reportReturnType, reportArgumentType]
    assert forward(batch_of(rows, length)) == ("openvino" if rows * length <= limit else "onnxruntime")


def test_a_runtime_is_opened_when_its_first_batch_comes() -> None:
    opened: list[str] = []

    def opener(runtime: str) -> Any:
        opened.append(runtime)
        return lambda batch: runtime

    forward = routed_forward({"routes": BOTH}, opener)
    assert opened == []
    assert [forward(batch_of(1, length)) for length in (8, 64, 65, 8)] == ["onnxruntime", "onnxruntime", "openvino", "onnxruntime"]
    assert opened == ["onnxruntime", "openvino"]
    routed_forward({}, opener)
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
        [{"up_to": 10**400, "runtime": "openvino"}],
        [7],
    ],
)
def test_malformed_routes_are_refused(recorded: Any) -> None:
    with pytest.raises(ModelError, match="malformed routes"):
        recorded_runtimes({"routes": recorded})


def test_recorded_runtimes() -> None:
    assert recorded_runtimes({}) == recorded_runtimes(RUNTIME_HINTS) == ["onnxruntime"]
    assert recorded_runtimes({"routes": single_route("openvino")}) == ["openvino"]
    assert recorded_runtimes({"routes": BOTH}) == ["onnxruntime", "openvino"]


@needs_openvino
def test_an_artifact_is_opened_in_the_recorded_runtimes(checkpoint: Maker, tmp_path: Path) -> None:
    folder = write(checkpoint(), tmp_path / "a", {"routes": BOTH, "openvino": {"precision": "fp32"}})
    model, plain = load_onnx(folder), load_onnx(folder, runtime="onnxruntime")
    data = tiny.encoded("bert", 40)
    for positions in ([0], range(12)):
        batch = data.batch(positions)
        np.testing.assert_allclose(model.logits(batch), plain.logits(batch), atol=1e-4)
    with ThreadPoolExecutor(4) as pool:
        rows = list(pool.map(lambda _: model.logits(data.batch(range(12))), range(8)))
    assert all(np.array_equal(row, rows[0]) for row in rows)


def test_a_missing_openvino_is_an_error_without_fallback(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(checkpoint(), tmp_path / "a", {"routes": BOTH})
    monkeypatch.setattr(module, "has_openvino", lambda: False)
    with pytest.raises(ResourceError, match="not installed") as caught:
        load_onnx(folder)("the red dog")
    assert "runtime='onnxruntime'" in (caught.value.hint or "")
    assert load_onnx(folder, runtime="onnxruntime")("the red dog")
    with pytest.raises(UsageError, match="no runtime 'tflite'"):
        load_onnx(folder, runtime="tflite")


def test_a_gpu_always_uses_onnx_runtime(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(checkpoint(), tmp_path / "a", {"routes": single_route("openvino")})
    monkeypatch.setattr(OnnxModel, "open_runtime", lambda self, runtime: runtime)
    assert OnnxModel(folder, device="cuda").logits == "onnxruntime"


@pytest.mark.parametrize("hints", [["openvino"], "openvino", 7])
def test_hints_that_are_no_mapping_are_refused(hints: Any) -> None:
    with pytest.raises(ModelError, match="malformed routes"):
        routed_forward(hints, lambda runtime: lambda batch: np.zeros(0))
