"""A model that rounds computes what its static int8 graph computes: the same rounding, not about the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch

from compress.core.errors import ModelError, UsageError
from compress.distill.int8_training import calibrated_ranges
from compress.export.graph import build_graph
from compress.factorize.embeddings import factorize_embeddings
from compress.inference.batches import Forward
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.inference.openvino_session import has_openvino, openvino_forward
from compress.models.adapters import add_adapters
from compress.models.checkpoint import load_model
from compress.models.int8_ranges import Range
from compress.models.int8_rounding import ActivationRounding, round_to_int8
from compress.models.layers import encoder_layers
from compress.models.low_rank import FactoredLinear, replace_linear
from compress.models.sharing import share_parameters
from compress.models.token_reduction import set_token_shares
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.quantize.embeddings import quantize_embeddings
from compress.quantize.matmuls import find_matmuls
from compress.quantize.openvino import openvino_graph
from compress.quantize.static import static_graph
from tests import tiny

SAME_ROUNDING = 0.1  # of the error of int8: values at the middle of two levels may go to either


def int8_graph(model: Any, ranges: dict[str, Range]) -> onnx.ModelProto:
    graph = build_graph(model)
    matmuls = find_matmuls(graph)
    floats = {matmul.group for matmul in matmuls if matmul.node not in ranges}
    rows = {matmul.node: matmul.rows for matmul in matmuls}
    return quantize_embeddings(static_graph(graph, {rows[name]: limits for name, limits in ranges.items()}, keep_float=floats))


def onnx_forward(graph: onnx.ModelProto) -> Forward:
    return session_forward(open_session(graph.SerializeToString(), 1, "cpu", {}))


def unequal_share(model: Any, family: str = "bert", changed: dict[str, Range] | None = None, runtime: Any = onnx_forward) -> float:
    """Return the mean difference of the rounding model and the int8 graph, as a share of the int8 graph's error."""
    data = tiny.encoded(family, 40)
    batch = data.batch(np.arange(40))
    mask = batch["attention_mask"].astype(bool)
    ranges = calibrated_ranges(model, data)
    exact, int8 = torch_forward(model)(batch), runtime(int8_graph(model, ranges))(batch)
    rounding = round_to_int8(model, {**ranges, **(changed or {})})
    rounded = torch_forward(model)(batch)
    rounding.remove()
    np.testing.assert_array_equal(torch_forward(model)(batch), exact)
    exact, int8, rounded = (logits[mask] if logits.ndim == 3 else logits for logits in (exact, int8, rounded))
    return float(np.abs(rounded - int8).mean() / np.abs(exact - int8).mean())


@pytest.mark.parametrize("family", list(tiny.CONFIGS))
def test_every_family_rounds_as_its_graph(family: str) -> None:
    assert max(unequal_share(tiny.make_model(family, target=target), family) for target in ("class", "tags")) < SAME_ROUNDING


def pruned() -> Any:
    """Return a model with a layer without heads after the last one that mixes, and one without neurons."""
    model = tiny.make_model()
    slice_model(model, [Kept([0, 3], [1, 2, 3]), Kept([1], []), Kept([], [0, 5, 7])])
    return model


def factorized() -> Any:
    """Return a model with a factorized linear of each kind, and factorized word embeddings."""
    model = tiny.make_model()
    for layer in encoder_layers(model):
        for role in ("query", "attention_output", "ffn_in"):
            linear = getattr(layer, role)
            factors = FactoredLinear(linear.in_features, linear.out_features, 8)
            torch.nn.init.normal_(factors.up.weight, std=0.3)
            replace_linear(model, layer, role, factors)
    factorize_embeddings(model, tiny.encoded("bert", 40), 6)
    return model.eval()


def shared() -> Any:
    """Return a model whose layers are one."""
    model = tiny.make_model()
    share_parameters(model, (0, 0, 0))
    return model


def large_vocabulary() -> Any:
    """Return a model whose word embeddings are int8, too."""
    return tiny.make_model(vocab_size=1100)


def fewer_tokens() -> Any:
    """Return a model that drops tokens."""
    model = tiny.make_model()
    set_token_shares(model, [0.75, 0.5, 0.5])
    return model


@pytest.mark.parametrize("make", [pruned, factorized, shared, large_vocabulary, fewer_tokens])
def test_every_shape_rounds_as_its_graph(make: Any) -> None:
    assert unequal_share(make()) < SAME_ROUNDING


@pytest.mark.parametrize("pooling", [("mean",), ("cls",)])
def test_embedders_round_as_their_graph(pooling: tuple[str, ...], tmp_path: Any) -> None:
    model = load_model(tiny.write_embedder(tmp_path / "embedder", pooling=pooling, dense=16))
    assert unequal_share(model) < SAME_ROUNDING


@pytest.mark.skipif(not has_openvino(), reason="no OpenVINO")
def test_openvino_rounds_alike(tmp_path: Any) -> None:
    def forward(graph: onnx.ModelProto) -> Forward:
        onnx.save(openvino_graph(graph), str(tmp_path / "model.onnx"))
        return openvino_forward(tmp_path, "fp32", "cpu", 1)

    assert unequal_share(tiny.make_model(), runtime=forward) < SAME_ROUNDING


@pytest.mark.parametrize("name", ["layer.0.attention.query", "layer.1.ffn.out", "classifier"])
def test_another_scale_is_noticed(name: str) -> None:
    model = tiny.make_model()
    limits = calibrated_ranges(model, tiny.encoded("bert", 40))[name]
    wider = Range(1.1 * limits.low, 1.1 * limits.high)
    assert unequal_share(model, changed={name: wider}) > 2 * SAME_ROUNDING


def test_ranges_of_another_model_are_refused() -> None:
    with pytest.raises(ModelError, match=r"no matmul 'layer\.9\.ffn\.in'"):
        round_to_int8(tiny.make_model(), {"layer.9.ffn.in": Range(-1.0, 1.0)})


def test_adapters_are_refused() -> None:
    model = tiny.make_model()
    add_adapters(model, 4)
    with pytest.raises(UsageError, match="adapters"):
        round_to_int8(model, {})


def test_the_gradient_of_a_scale_is_that_of_lsq() -> None:
    """Esser et al. 2020, eq. 3: the rounding error within the range, the nearer end beyond it."""
    rounding = ActivationRounding(Range(-1.0, 1.55), learned=True)  # levels of 0.01, zero point 100
    values = torch.tensor([0.004, 0.506, -5.0, 7.0], requires_grad=True)
    rounding(values).sum().backward()
    assert rounding.log_factor.grad is not None
    expected = np.array([-0.4, 0.4, -100.0, 155.0]).sum() * 0.01 / np.sqrt(4 * 255)
    assert float(rounding.log_factor.grad) == pytest.approx(expected, rel=1e-3)
    assert values.grad is not None
    assert values.grad.tolist() == pytest.approx([1.0, 1.0, 0.0, 0.0])


def test_query_key_and_value_learn_one_range() -> None:
    model = tiny.make_model()
    ranges = calibrated_ranges(model, tiny.encoded("bert", 40))
    rounding = round_to_int8(model, ranges, learned=True)
    assert sum("log_factor" in name for name, _ in model.named_parameters()) == len(ranges) - 2 - 2 - 1  # the last query reads first tokens
    logits = model(**{name: torch.from_numpy(value) for name, value in tiny.encoded("bert", 40).batch(np.arange(4)).items()}).logits
    logits.square().sum().backward()
    assert all(
        parameter.grad is not None for parameter in model.parameters() if parameter.ndim == 2 and parameter.shape[0] != tiny.POSITIONS
    )
    parts = [rounding.activations[f"layer.0.attention.{part}"] for part in ("query", "key", "value")]
    assert parts[0] is parts[1] is parts[2]
    assert rounding.ranges() == pytest.approx(ranges) or all(
        limits.high == pytest.approx(ranges[name].high, abs=0.02) for name, limits in rounding.ranges().items()
    )
