"""Dynamic int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compress.export.graph import build_graph
from compress.model.artifact import open_session, session_forward
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.quantize.dynamic import needs_seven_bits, quantize_dynamic, quantized_share
from tests import tiny


def quantized(
    family: str, folder: Path, seven_bits: bool = True, kept: list[Kept] | None = None
) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return the float and the int8 graph of a tiny model."""
    model = tiny.make_model(family)
    if kept:
        slice_model(model, kept)
    plain = build_graph(model)
    onnx.save(plain, str(folder / "float.onnx"))
    quantize_dynamic(folder / "float.onnx", folder / "int8.onnx", seven_bits)
    return plain, onnx.load(str(folder / "int8.onnx"))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], True),
        (["avx2"], True),
        (["avx2", "avx512f"], True),
        (["avx512f", "avx512_vnni"], False),
        (["avx_vnni"], False),
        (["amx_int8"], False),
        (["asimd"], True),
        (["asimd", "asimddp"], False),
    ],
)
def test_seven_bits_where_products_are_added_in_sixteen(flags: list[str], expected: bool) -> None:
    assert needs_seven_bits(flags) is expected


def test_every_constant_product_becomes_int8(family: str, tmp_path: Path) -> None:
    plain, int8 = quantized(family, tmp_path)
    constants = {tensor.name for tensor in plain.graph.initializer}
    products = [node for node in plain.graph.node if node.op_type in ("MatMul", "Gemm")]
    weighted = [node for node in products if node.input[1] in constants]
    assert quantized_share(plain) == (0, len(weighted))
    assert quantized_share(int8) == (len(weighted), 0)
    left = [node for node in int8.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert len(left) == len(products) - len(weighted) == 2 * tiny.LAYERS  # scores and mixing


@pytest.mark.parametrize("seven_bits", [True, False])
def test_classes_mostly_agree(family: str, seven_bits: bool, tmp_path: Path) -> None:
    plain, int8 = quantized(family, tmp_path, seven_bits)
    batch = tiny.encoded(family, 60).batch(range(60))
    before, after = (session_forward(open_session(model.SerializeToString(), 1, "cpu", {}))(batch) for model in (plain, int8))
    assert (before.argmax(axis=1) == after.argmax(axis=1)).mean() >= 0.85
    difference, spread = before - after, before - before.mean(axis=0)
    assert np.sqrt((difference**2).mean()) < 0.25 * np.sqrt((spread**2).mean())
    assert np.abs(difference).max() > 0


def test_weights_have_a_scale_a_channel_and_fit_the_bits(tmp_path: Path) -> None:
    _, int8 = quantized("bert", tmp_path, seven_bits=True)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8.graph.initializer}
    weight, scale = arrays["layer.0.ffn.in.weight_quantized"], arrays["layer.0.ffn.in.weight_scale"]
    assert weight.shape == (tiny.HIDDEN, tiny.FFN)
    assert scale.shape == (tiny.FFN,)
    assert np.abs(weight.astype(int)).max() <= 64
    wide = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized("bert", tmp_path, seven_bits=False)[1].graph.initializer}
    assert np.abs(wide["layer.0.ffn.in.weight_quantized"].astype(int)).max() > 64


def test_pruned_shapes_are_quantized_too(family: str, tmp_path: Path) -> None:
    _, int8 = quantized(family, tmp_path, kept=[Kept([0, 3], [1]), Kept([], []), Kept([], [5, 6])])
    batch = tiny.encoded(family).batch(range(12))
    assert np.isfinite(session_forward(open_session(int8.SerializeToString(), 1, "cpu", {}))(batch)).all()
    assert quantized_share(int8)[1] == 0


def test_the_root_logger_is_left_as_it_was(tmp_path: Path) -> None:
    import logging

    before = logging.root.level
    quantized("bert", tmp_path)
    assert logging.root.level == before
