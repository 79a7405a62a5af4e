"""Norms without mean and bias: the centered graph computes the same, and the root mean square almost."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from compress.export.attention import GraphForm
from compress.export.graph import build_graph
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.quantize.centered_norms import NORM, RMS_NORM, center_norms, use_rms_norms
from compress.quantize.dynamic import count_quantized, dynamic_graph
from compress.quantize.fused_attention import fuse_attention
from compress.quantize.static import static_graph
from tests import tiny
from tests.unit.quantize.graphs import ranges_of, run

POST_NORM = ("bert", "roberta", "electra", "distilbert")


def random_norms(model: Any, spread: float) -> Any:
    """Give every LayerNorm other biases, and gains with this spread around 0.8."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.copy_(0.8 + spread * torch.randn(module.weight.shape, generator=draw))
                module.bias.copy_(0.5 * torch.randn(module.bias.shape, generator=draw))
    return model


def count(graph: onnx.ModelProto, op_type: str) -> int:
    return [node.op_type for node in graph.graph.node].count(op_type)


@pytest.mark.parametrize("qkv", ["separate", "packed"])
@pytest.mark.parametrize("family", POST_NORM)
def test_a_centered_graph_computes_the_same(family: str, qkv: Any) -> None:
    graph = build_graph(random_norms(tiny.make_model(family), 0.1), GraphForm(qkv=qkv))
    centered = center_norms(graph)
    assert centered is not None
    onnx.checker.check_model(centered)
    without_bias = [node.name for node in centered.graph.node if node.op_type == NORM and len(node.input) == 2]
    assert len(without_bias) >= 2 * (tiny.LAYERS - 1)  # all but the embeddings' and some of the last layer's
    np.testing.assert_allclose(run(centered, family), run(graph, family), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", [family for family in tiny.FAMILIES if family not in POST_NORM])
def test_other_families_stay_or_compute_the_same(family: str) -> None:
    graph = build_graph(tiny.make_model(family))
    centered = center_norms(graph)
    if centered is not None:
        np.testing.assert_allclose(run(centered, family), run(graph, family), atol=2e-5, rtol=1e-4)


def test_with_equal_gains_the_root_mean_square_is_exact() -> None:
    centered = center_norms(build_graph(random_norms(tiny.make_model("bert"), 0.0)))
    assert centered is not None
    rms = use_rms_norms(centered)
    assert count(rms, RMS_NORM) >= 2 * (tiny.LAYERS - 1)
    np.testing.assert_allclose(run(rms), run(centered), atol=2e-5, rtol=1e-4)


def test_with_other_gains_it_is_nearer_than_int8() -> None:
    graph = build_graph(random_norms(tiny.make_model("bert"), 0.1))
    centered = center_norms(graph)
    assert centered is not None
    exact, quantized, rms = run(graph), run(dynamic_graph(graph, True)), run(use_rms_norms(centered))
    assert 0 < np.sqrt(np.square(rms - exact).mean()) < np.sqrt(np.square(quantized - exact).mean())


@pytest.mark.parametrize("target", ["tags", "class"])
def test_pruned_layers_keep_their_logits(target: str) -> None:
    """Also where a sublayer without units leaves its norm alone, which stays as it is."""
    model = random_norms(tiny.make_model("bert", target=target), 0.1)
    slice_model(model, [Kept([0, 2, 3], [1]), Kept([], [4]), Kept([1], [])])
    graph = build_graph(model)
    centered = center_norms(graph)
    assert centered is not None
    np.testing.assert_allclose(run(centered), run(graph), atol=2e-5, rtol=1e-4)


def test_a_small_gain_keeps_its_norm() -> None:
    model = random_norms(tiny.make_model("bert"), 0.1)
    norm = model.bert.encoder.layer[0].attention.output.LayerNorm
    norm.weight.data[3] = 1e-4
    centered = center_norms(build_graph(model))
    assert centered is not None
    kept = [node.name for node in centered.graph.node if node.op_type == NORM and len(node.input) == 3]
    assert "layer.0.attention.norm" in kept
    np.testing.assert_allclose(run(centered), run(build_graph(model)), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_its_matmuls_are_int8_and_its_attention_fuses(method: str) -> None:
    graph = build_graph(random_norms(tiny.make_model("bert"), 0.1))
    centered = center_norms(graph)
    assert centered is not None
    int8 = dynamic_graph(centered, True) if method == "dynamic" else static_graph(centered, ranges_of(centered))
    assert count_quantized(int8) == (count_quantized(graph)[1], 0)
    fused = fuse_attention(use_rms_norms(int8))
    assert fused is not None
    exact, plain = run(graph), dynamic_graph(graph, True) if method == "dynamic" else static_graph(graph, ranges_of(graph))
    error, before = (np.sqrt(np.square(run(one) - exact).mean()) for one in (fused, plain))
    assert error < 2 * before
