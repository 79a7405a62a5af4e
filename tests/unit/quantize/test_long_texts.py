"""Graphs for long texts, whose attention is computed in parts, are quantized like others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compress.inference.artifact import OnnxModel
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from tests import tiny
from tests.unit.quantize.stage import run


@pytest.mark.parametrize(("family", "method"), [("modernbert", "static"), ("modernbert", "fp16"), ("eurobert", "dynamic")])
def test_attention_in_parts_is_quantized(family: str, method: str, tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "model", family, max_position_embeddings=8192)
    task = tiny.write_task(tmp_path / "task") | {"max_length": 2048}
    more: dict[str, Any] = {"calib_samples": 20, "max_drop": 100} if method == "static" else {}
    run(source, tmp_path / "out", task, method=method, **more)
    names = {node.name for node in onnx.load(tmp_path / "out" / "model.onnx").graph.node}
    assert any(name.endswith("attention.key.near" if family == "modernbert" else "attention.1.scores") for name in names)
    batch = tiny.encoded(family).batch(range(6))
    expected, found = torch_forward(load_model(source))(batch), OnnxModel(tmp_path / "out").logits(batch)
    assert np.abs(found - expected).max() < 0.3 * np.abs(expected).max()
