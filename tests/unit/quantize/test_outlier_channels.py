"""Outlier channels of an embedder: found by hand, taken out of int8 without a change of the float outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from compress.export.graph import build_graph
from compress.models.checkpoint import load_model
from compress.models.layers import encoder_layers
from compress.quantize.calibrate import activation_histograms
from compress.quantize.instruction_sets import hardware_target
from compress.quantize.matmuls import OUTLIERS, find_matmuls
from compress.quantize.outlier_channels import MOST, outlier_channels, without_outliers
from compress.quantize.variants import GraphVariants
from compress.settings import QuantizeSettings
from tests import tiny
from tests.unit.quantize.graphs import by_hand, run, values_by_hand

NEURON, GROWN = 3, 200.0


def test_outliers_by_hand() -> None:
    largest = np.ones(1000)
    largest[[7, 900]] = 2.1
    assert outlier_channels(largest).tolist() == [7, 900]
    largest[[7, 900]] = 1.9
    assert outlier_channels(largest).tolist() == []
    largest[:4] = 50.0 + np.arange(4)
    assert outlier_channels(largest).tolist() == [0, 1, 2, 3]
    assert len(outlier_channels(np.concatenate([np.ones(10_000), np.full(MOST + 4, 9.0)]))) == MOST


@pytest.mark.parametrize(("addend", "op"), [("bias", "Gemm"), ("residual", "Gemm"), (None, "Gemm"), (None, "MatMul")])
def test_columns_leave_the_matmul(addend: str | None, op: str) -> None:
    model = by_hand(addend, op)
    made = without_outliers(model, {"x": np.array([1.0, 1.0, 900.0])})
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(values_by_hand(made), values_by_hand(model), rtol=1e-5, atol=1e-6)
    (matmul,) = find_matmuls(made)
    assert (matmul.node, matmul.rows) == ("matmul", "x.usual")
    assert [node.name for node in made.graph.node if node.name == f"{OUTLIERS}matmul"]


def planted(folder: Path) -> Any:
    """Return an embedder in which a neuron of every FFN is far larger than the others, and what it adds is as before."""
    model: Any = load_model(tiny.write_embedder(folder))
    with torch.no_grad():
        for layer in encoder_layers(model):
            layer.ffn_in.weight[NEURON] *= GROWN
            layer.ffn_in.bias[NEURON] = 5.0  # GELU is the identity here
            layer.ffn_out.weight[:, NEURON] /= GROWN
    return model


def test_an_embedder_keeps_its_vectors_in_int8(tmp_path: Path) -> None:
    graph = build_graph(planted(tmp_path / "model"))
    path = tmp_path / "model.onnx"
    onnx.save(graph, str(path))
    data, settings, target = tiny.encoded(count=40), QuantizeSettings.model_validate({}), hardware_target("auto")
    plain, without = (GraphVariants(path, settings, target, data, observed=observed) for observed in (None, data))
    expected = run(graph)
    np.testing.assert_allclose(run(without.plain_model), expected, atol=1e-5)
    for method in ("dynamic", "static"):
        errors = [float(np.square(run(variants.graph(method)) - expected).mean()) for variants in (plain, without)]
        assert errors[1] < 0.3 * errors[0], method
    assert plain.plain_model is plain.model
    assert without.groups == plain.groups


def test_values_that_were_not_seen_stay(family: str) -> None:
    model = build_graph(tiny.make_model(family))
    names = [matmul.rows for matmul in find_matmuls(model)]
    seen = activation_histograms(model, names, tiny.encoded(family, 40))
    channels = {name: found.channels for name, found in seen.items() if found.channels is not None}
    made = without_outliers(model, channels)
    np.testing.assert_allclose(run(made, family), run(model, family), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(run(without_outliers(model, {}), family), run(model, family), rtol=1e-3, atol=1e-4)
