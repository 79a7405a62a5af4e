"""Graphs that cannot be quantized: no tokenizer, weights that are NaN, weights outside their folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compress.core.errors import ModelError
from compress.models.layout import GRAPH
from tests.unit.quantize.stage import run


def test_weights_that_are_no_numbers(graph: Path, tmp_path: Path) -> None:
    model = onnx.load(str(graph / GRAPH))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "layer.1.ffn.in.weight")
    array = numpy_helper.to_array(tensor).copy()
    array[0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, str(graph / GRAPH))
    with pytest.raises(ModelError, match=r"the weights 'layer\.1\.ffn\.in\.weight' are not finite"):
        run(graph, tmp_path / "out")


@pytest.mark.parametrize("method", ["dynamic", "int4"])
def test_an_artifact_without_a_tokenizer(graph: Path, method: str, tmp_path: Path) -> None:
    (graph / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match="has no tokenizer") as caught:
        run(graph, tmp_path / "out", method=method)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("how", ["..", "symlink", "hard link"])
def test_weights_outside_the_folder(graph: Path, how: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    model = onnx.load(str(graph / GRAPH))
    onnx.save(model, str(tmp_path / "elsewhere" / GRAPH), save_as_external_data=True, location="secret.data", size_threshold=64)
    moved = onnx.load(str(tmp_path / "elsewhere" / GRAPH), load_external_data=False)
    for tensor in moved.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and how == "..":
                entry.value = "../elsewhere/secret.data"
    (graph / GRAPH).write_bytes(moved.SerializeToString())
    if how == "symlink":
        (graph / "secret.data").symlink_to(tmp_path / "elsewhere" / "secret.data")
    elif how == "hard link":
        os.link(tmp_path / "elsewhere" / "secret.data", graph / "secret.data")
    with pytest.raises(ModelError):
        run(graph, tmp_path / "out")
