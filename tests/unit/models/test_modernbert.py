"""ModernBERT: transformers = ours = reloaded = ONNX for every setting of its config, and what its layers do differently."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from compress.core.errors import ModelError, UsageError
from compress.editing.encoder_layers import keep_layers
from compress.editing.layer_norms import hidden_norms
from compress.editing.layerwise import first_layer_inputs
from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.editing.width import narrow
from compress.export.attention import GraphForm
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.models.adapters import add_adapters
from compress.models.checkpoint import load_model, save_model
from compress.models.family import family_of
from compress.models.joined_linear import join_state, split_joined, split_state
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.prune.baselines import torch_pruning_scores
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.share.layers import can_share
from tests import tiny
from tests.unit.models.edge_batches import assert_same, calibration, onnx_forward

BIASES: dict[str, Any] = {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "classifier_bias": True}
VARIANTS: list[tuple[Any, dict[str, Any]]] = [  # every setting of the config that changes what is computed, with every head
    ("class", {}),
    ("class", {"classifier_pooling": "mean", **BIASES}),
    ("labels", {"norm_bias": True, "classifier_activation": "relu", "hidden_activation": "silu"}),
    ("value", {"attention_bias": True, "local_attention": 3, "norm_eps": 1e-3}),
    ("tags", {"mlp_bias": True, "layer_types": ["sliding_attention", "full_attention", "full_attention"]}),
    ("span", {"layer_types": ["sliding_attention"] * 3, "classifier_bias": True, "local_attention": 400}),
    ("class", {"rope_parameters": {
        "full_attention": {"rope_type": "linear", "rope_theta": 500.0, "factor": 3.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 30.0},
    }}),
]  # fmt: skip
CUT = [Kept([0, 2], [1, 5, 9, 40]), Kept([], list(range(20))), Kept([3], [])]


@pytest.mark.parametrize(("target", "changes"), VARIANTS, ids=str)
def test_transformers_ours_sliced_reloaded_and_onnx_compute_the_same(target: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "dense", "modernbert", target=target, **changes)
    kind = getattr(transformers, family_of("modernbert").head_class(target))
    plain = kind.from_pretrained(tmp_path / "dense").eval()
    model = load_model(tmp_path / "dense")
    assert_same("modernbert", torch_forward(plain), torch_forward(model), onnx_forward(model))
    slice_model(model, CUT)
    (tmp_path / "cut").mkdir()
    save_model(model, tmp_path / "cut", tmp_path / "dense")
    again = load_model(tmp_path / "cut")
    forms = GraphForm("mha", "packed"), GraphForm("onnx", opset=23), GraphForm(scale="scores", opset=17)
    assert_same(
        "modernbert", torch_forward(model), torch_forward(again), onnx_forward(again), *(onnx_forward(again, form) for form in forms)
    )


@pytest.mark.parametrize("pooling", [("cls",), ("mean", "max")])
def test_embedders(pooling: tuple[str, ...], tmp_path: Path) -> None:
    tiny.write_embedder(tmp_path / "dense", "modernbert", pooling, dense=8)
    model = load_model(tmp_path / "dense")
    slice_model(model, CUT)
    (tmp_path / "cut").mkdir()
    save_model(model, tmp_path / "cut", tmp_path / "dense")
    assert_same("modernbert", torch_forward(model), torch_forward(load_model(tmp_path / "cut")), onnx_forward(model))


def test_a_dense_model_is_saved_as_transformers_has_it(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "first", "modernbert")
    (tmp_path / "second").mkdir()
    save_model(load_model(tmp_path / "first"), tmp_path / "second", tmp_path / "first")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_joined_weights_split_and_join_again() -> None:
    family = family_of("modernbert")
    state = {"model.layers.0.attn.Wqkv.weight": torch.randn(12, 3), "head.dense.weight": torch.ones(2, 2)}
    state |= {"layers.1.mlp.Wi.weight": torch.randn(8, 3), "layers.1.mlp.Wi.bias": torch.randn(8)}
    split = split_state(state, family)
    assert split["model.layers.0.attn.Wqkv.key.weight"].shape == (4, 3)
    assert split.keys() & state.keys() == {"head.dense.weight"}
    joined = join_state(split, family)
    assert joined.keys() == state.keys()
    assert all(torch.equal(joined[name], state[name]) for name in state)
    factorized = {f"attn.Wqkv.{name}.weight": torch.ones(1, 3) for name in ("query.down", "key", "value")}
    assert join_state(factorized, family) == factorized
    empty = split_state({"mlp.Wi.weight": torch.ones(0, 3)}, family)
    assert [tensor.shape for tensor in empty.values()] == [(0, 3), (0, 3)]


def test_adapters_and_biases_reach_the_graph() -> None:
    model = tiny.make_model("modernbert", target="tags", mlp_bias=True)
    slice_model(model, CUT)
    add_adapters(model, 3)
    for name, parameter in model.named_parameters():
        if "adapter" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    assert_same("modernbert", torch_forward(model), onnx_forward(model))


def test_layers_one_by_one_get_the_masks_and_rotations_of_their_kind() -> None:
    model = tiny.make_model("modernbert")
    batch = calibration("modernbert", model, 4)
    inputs = first_layer_inputs(model, batch)
    for layer in encoder_layers(model):
        inputs.states[0] = inputs.run(layer, 0)
    hidden = model.model(**batch[0]).last_hidden_state
    torch.testing.assert_close(model.model.final_norm(inputs.states[0]), hidden)
    assert [layer.kind for layer in encoder_layers(model)] == ["full_attention", "sliding_attention", "sliding_attention"]


def test_a_refit_brings_the_residual_stream_back_and_adds_biases(tmp_path: Path) -> None:
    dense = tiny.make_model("modernbert")
    model = copy.deepcopy(dense)
    slice_model(model, [Kept([0, 1, 2], list(range(50))), Kept([], list(range(50))), Kept([0, 1], [])])
    parts = calibration("modernbert", dense, 40)
    before = copy.deepcopy(model)
    errors = reconstruct(model, DenseTargets(dense, parts))
    assert all(error["attention_after"] <= error["attention_before"] for error in errors)
    assert errors[2]["ffn_after"] < errors[2]["ffn_before"]  # no neuron is left: only a bias can help
    with torch.no_grad():
        gap = [sum(float((cut(**part).logits - dense(**part).logits).square().sum()) for part in parts) for cut in (before, model)]
    assert gap[1] < gap[0]
    tiny.write_tokenizer(tmp_path, "modernbert")
    save_model(model, tmp_path, tmp_path)
    again = load_model(tmp_path)
    assert again.config.mlp_bias
    assert not again.config.norm_bias
    assert_same("modernbert", torch_forward(model), torch_forward(again), onnx_forward(again))


def test_the_group_of_a_neuron_is_two_rows_and_a_column() -> None:
    model = tiny.make_model("modernbert")
    scores = torch_pruning_scores(model, "magnitude")
    for layer, found in zip(encoder_layers(model), scores, strict=True):
        assert layer.ffn_gate is not None
        rows = layer.ffn_in.weight.square().sum(1) + layer.ffn_gate.weight.square().sum(1)
        expected = (rows + layer.ffn_out.weight.square().sum(0)) / 3
        torch.testing.assert_close(found.neurons, expected.detach().double(), rtol=1e-5, atol=1e-5)


def test_sizes_are_those_of_the_weights() -> None:
    model = tiny.make_model("modernbert", **BIASES)
    slice_model(model, CUT)
    linears = [linear for layer in encoder_layers(model) for linear in (
        layer.query, layer.key, layer.value, layer.attention_output, layer.ffn_in, layer.ffn_gate, layer.ffn_out,
    ) if linear is not None]  # fmt: skip
    assert model_shape(model).params() == sum(parameter.numel() for linear in linears for parameter in linear.parameters())


@pytest.mark.parametrize("changes", [{}, {"norm_bias": True}], ids=str)
def test_a_narrowed_model_keeps_its_rotations(changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny.make_model("modernbert", **changes)
    kept = sorted(np.random.default_rng(0).choice(tiny.HIDDEN, 16, replace=False).tolist())
    narrow(model, kept)
    assert model_shape(model).hidden == 16
    assert {len(norm.weight) for norm in hidden_norms(model)} == {16}
    assert len(hidden_norms(model)) == 2 * tiny.LAYERS + 1  # the embeddings' and the last one more, the first layer's one less
    tiny.write_tokenizer(tmp_path, "modernbert")
    save_model(model, tmp_path, tmp_path)
    assert_same("modernbert", torch_forward(model), torch_forward(load_model(tmp_path)), onnx_forward(model))


def test_the_first_layer_stays_and_the_others_keep_their_kinds(tmp_path: Path) -> None:
    model = tiny.make_model("modernbert", layer_types=["full_attention", "sliding_attention", "full_attention"])
    with pytest.raises(UsageError, match="first layer of a ModernBert cannot be removed"):
        keep_layers(model, [1, 2])
    keep_layers(model, [0, 2])
    tiny.write_tokenizer(tmp_path, "modernbert")
    save_model(model, tmp_path, tmp_path)
    plain: Any = transformers.ModernBertForSequenceClassification.from_pretrained(tmp_path).eval()
    assert plain.config.layer_types == ["full_attention", "full_attention"]
    assert_same("modernbert", torch_forward(plain), torch_forward(model), onnx_forward(model))


def test_the_first_layer_shares_weights_with_no_other() -> None:
    model = tiny.make_model("modernbert")
    assert can_share(model, (0, 1, 1))
    assert not can_share(model, (0, 0, 2))


def test_no_constant_grows_with_the_square_of_the_length() -> None:
    sizes = []
    for positions in (64, 256):
        model = tiny.make_model("modernbert", max_position_embeddings=positions)
        sizes.append(sum(int(np.prod(tensor.dims)) for tensor in build_graph(model).graph.initializer))
    assert sizes[1] - sizes[0] == 2 * 2 * (256 - 64) * tiny.HEAD_SIZE // 2  # cosines and sines of two kinds of layers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_parameters": {"full_attention": {"rope_type": "dynamic", "factor": 2.0}}}, "rotary positions 'dynamic'"),
        ({"classifier_pooling": "last"}, "classifier_pooling 'last'"),
        ({"layer_types": ["chunked_attention"] * 3}, "layer_types"),
        ({"hidden_activation": "mish"}, "hidden_activation 'mish'"),
        ({"classifier_activation": "mish"}, "classifier_activation 'mish'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "modernbert")
    tiny.edit_config(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


def test_a_model_of_another_family_is_not_touched() -> None:
    model = tiny.make_model("bert")
    names = list(model.state_dict())
    assert list(split_joined(model).state_dict()) == names
