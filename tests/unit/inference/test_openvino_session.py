"""OpenVINO's own graph."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core import artifacts, files
from compress.export import write_artifact
from compress.export.graph import build_graph
from compress.inference.artifact import load_onnx
from compress.inference.routes import single_route
from compress.models.checkpoint import load_model
from compress.models.layout import OPENVINO_GRAPH
from tests import tiny

Maker = Callable[..., Path]
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")


def write(checkpoint: Path, folder: Path, hints: dict[str, Any], **more: Any) -> Path:
    """Write an fp32 artifact with a manifest."""
    folder.mkdir()
    write_artifact(build_graph(load_model(checkpoint)), checkpoint, folder)
    files.write_json(folder / artifacts.MANIFEST, {"precision": "fp32", "runtime": hints, **more})
    return folder


@needs_openvino
def test_openvino_reads_its_own_graph(checkpoint: Maker, tmp_path: Path) -> None:
    folder = write(checkpoint(), tmp_path / "a", {"routes": single_route("openvino")})
    other = load_model(checkpoint())
    other.classifier.bias.data += 3
    (folder / OPENVINO_GRAPH).write_bytes(build_graph(other).SerializeToString())
    batch = tiny.encoded().batch([0, 1])
    result, plain = load_onnx(folder).logits(batch), load_onnx(folder, runtime="onnxruntime").logits(batch)
    np.testing.assert_allclose(result, plain + 3, atol=1e-4)


@needs_openvino
@pytest.mark.parametrize("target", ["class", "span"])
def test_logits_outlive_the_next_batch(own_checkpoint: Maker, tmp_path: Path, target: str) -> None:
    """A request overwrites its outputs; those of a span keep their order."""
    folder = write(own_checkpoint(target=target), tmp_path / "a", {"routes": single_route("openvino")})
    forward, data = load_onnx(folder).logits, tiny.encoded()
    first = forward(data.batch([0, 1]))
    kept = first.copy()
    forward(data.batch([2, 1]))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(first, load_onnx(folder, runtime="onnxruntime").logits(data.batch([0, 1])), atol=1e-4)
