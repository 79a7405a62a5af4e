"""OpenVINO's form computes what the static form computes, for every family and shape, and shares its bytes."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from compress.core.errors import ModelError
from compress.export.graph import build_graph
from compress.inference.openvino_session import has_openvino, openvino_forward
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.quantize.calibrate import activation_histograms
from compress.quantize.matmuls import find_matmuls
from compress.quantize.openvino import openvino_graph, save_sharing_weights
from compress.quantize.ranges import calibrated_range
from compress.quantize.smooth import inputs_to_smooth, smooth_graph
from compress.quantize.static import static_graph
from tests import tiny


def static_of(model: onnx.ModelProto, data: Any, symmetric: bool = False, keep_float: Collection[str] = ()) -> onnx.ModelProto:
    """The static int8 form of a float graph."""
    seen = activation_histograms(model, [matmul.rows for matmul in find_matmuls(model)], data)
    ranges = {name: calibrated_range(found, "minmax", symmetric) for name, found in seen.items()}
    return static_graph(model, ranges, symmetric=symmetric, keep_float=keep_float)


def logits(model: onnx.ModelProto, batch: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {entry.name: batch[entry.name] for entry in session.get_inputs()})


def quantized(model: onnx.ModelProto) -> list[str]:
    """What makes the values that are rounded to int8."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return [makers[node.input[0]] for node in model.graph.node if node.op_type == "QuantizeLinear"]


@pytest.mark.parametrize("smooth", [False, True])
def test_it_computes_the_same(family: str, smooth: bool) -> None:
    graph, data = build_graph(tiny.make_model(family)), tiny.encoded(family)
    if smooth:
        seen = activation_histograms(graph, [matmul.rows for matmul in find_matmuls(graph)], data)
        graph = smooth_graph(graph, {name: seen[name].channels for name in inputs_to_smooth(graph)}, 0.5)  # pyright: ignore[reportArgumentType]
    static = static_of(graph, data)
    form = openvino_graph(static)
    onnx.checker.check_model(form, full_check=True)
    batch = data.batch(range(6))
    for found, wanted in zip(logits(form, batch), logits(static, batch), strict=True):
        # A value that lies between two integers may be rounded to the other one.
        assert np.abs(found - wanted).mean() < 0.02 * np.abs(wanted).max()


@pytest.mark.parametrize("heads", [[4, 1, 2], [0, 2, 0]])
def test_it_computes_the_same_for_pruned_shapes(heads: list[int]) -> None:
    model = tiny.make_model()
    slice_model(model, [Kept(list(range(count)), list(range(width))) for count, width in zip(heads, (64, 0, 16), strict=True)])
    graph, data = build_graph(model), tiny.encoded()
    static = static_of(graph, data)
    batch = data.batch(range(6))
    found, wanted = logits(openvino_graph(static), batch)[0], logits(static, batch)[0]
    assert np.abs(found - wanted).mean() < 0.02 * np.abs(wanted).max()


def test_groups_that_stay_float_and_a_norm_without_bias() -> None:
    graph, data = build_graph(tiny.make_model()), tiny.encoded()
    norms = [node for node in graph.graph.node if node.op_type == "LayerNormalization"]
    norms[1].input.pop()
    groups = sorted({matmul.group for matmul in find_matmuls(graph)})
    static = static_of(graph, data, keep_float=groups[::2])
    batch = data.batch(range(6))
    found, wanted = logits(openvino_graph(static), batch)[0], logits(static, batch)[0]
    assert np.abs(found - wanted).mean() < 0.02 * np.abs(wanted).max()


def test_signed_integers() -> None:
    graph, data = build_graph(tiny.make_model()), tiny.encoded()
    static = static_of(graph, data, symmetric=True)
    batch = data.batch(range(6))
    found, wanted = logits(openvino_graph(static), batch)[0], logits(static, batch)[0]
    assert np.abs(found - wanted).mean() < 0.02 * np.abs(wanted).max()


def test_a_graph_without_integers_computes_the_same() -> None:
    graph, batch = build_graph(tiny.make_model()), tiny.encoded().batch(range(6))
    np.testing.assert_array_equal(logits(openvino_graph(graph), batch)[0], logits(graph, batch)[0])


@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
def test_openvino_computes_what_it_did(graph: Path) -> None:
    data = tiny.encoded()
    static = static_of(onnx.load(graph / "model.onnx"), data)
    onnx.save(static, graph / "model.onnx")
    batch = data.batch(range(6))
    before = openvino_forward(graph)(batch)
    save_sharing_weights(openvino_graph(static), graph / "openvino.onnx")
    after = openvino_forward(graph)(batch)
    assert np.abs(after - before).mean() < 0.02 * np.abs(before).max()


@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
def test_weights_of_any_other_file_are_refused(graph: Path) -> None:
    form = openvino_graph(static_of(onnx.load(graph / "model.onnx"), tiny.encoded()))
    (graph / "other.bin").write_bytes((graph / "model.onnx").read_bytes())
    save_sharing_weights(form, graph / "openvino.onnx")
    read = onnx.load(graph / "openvino.onnx", load_external_data=False)
    outside = next(tensor for tensor in read.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL)
    next(entry for entry in outside.external_data if entry.key == "location").value = "other.bin"
    (graph / "openvino.onnx").write_bytes(read.SerializeToString())
    with pytest.raises(ModelError, match="weights in another file than"):
        openvino_forward(graph)


def test_every_norm_that_a_product_reads_is_applied_on_three_axes() -> None:
    static = static_of(build_graph(tiny.make_model()), tiny.encoded())
    before, after = quantized(static), quantized(openvino_graph(static))
    assert before.count("LayerNormalization") >= 5  # both of three layers, but where first tokens are taken
    assert after.count("LayerNormalization") == 0
    assert after.count("Add") == before.count("LayerNormalization") + before.count("Add")
    assert before.count("Reshape") - after.count("Reshape") == 2  # heads are merged thereafter, but for the last layer's single token
    assert len(after) == len(before)


def test_weights_are_left_in_the_other_file(tmp_path: Path) -> None:
    static = static_of(build_graph(tiny.make_model()), tiny.encoded())
    onnx.save(static, tmp_path / "model.onnx")
    form = openvino_graph(static)
    save_sharing_weights(form, tmp_path / "openvino.onnx")
    large = [tensor for tensor in form.graph.initializer if len(tensor.raw_data) >= 1024]
    read = onnx.load(tmp_path / "openvino.onnx", load_external_data=False)
    outside = [tensor for tensor in read.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    assert len(outside) == len(large) > 0
    unshared = sum(len(tensor.raw_data) for tensor in read.graph.initializer)
    assert unshared < 0.25 * sum(len(tensor.raw_data) for tensor in static.graph.initializer)
    batch = tiny.encoded().batch(range(6))
    np.testing.assert_array_equal(logits(onnx.load(tmp_path / "openvino.onnx"), batch)[0], logits(form, batch)[0])


@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
def test_it_opens_where_files_are_links(graph: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    static = static_of(onnx.load(graph / "model.onnx"), tiny.encoded())
    onnx.save(static, blobs / "model.onnx")
    save_sharing_weights(openvino_graph(static), blobs / "openvino.onnx")
    for name in ("model.onnx", "openvino.onnx"):
        os.symlink(blobs / name, snapshot / name)
    (snapshot / "config.json").write_bytes((graph / "config.json").read_bytes())
    (blobs / "config.json").write_bytes((graph / "config.json").read_bytes())
    batch = tiny.encoded().batch(range(6))
    np.testing.assert_array_equal(openvino_forward(snapshot)(batch), openvino_forward(blobs)(batch))
