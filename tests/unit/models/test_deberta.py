"""DeBERTa-v2 and -v3: transformers = ours = reloaded = ONNX for every setting of its config, and what its attention does differently."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from compress.core.errors import ModelError, UsageError
from compress.distill.features import forward_with_features
from compress.distill.importance_init import initialize_by_importance
from compress.editing.layerwise import captured_inputs
from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.editing.width import narrow
from compress.export.attention import GraphForm
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.disentangled import buckets_by_distance
from compress.models.family import family_of
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.models.shape import LayerShape, Shape
from compress.prune.baselines import torch_pruning_scores
from compress.prune.search import Kept
from compress.prune.surgery import mask_model, slice_model
from tests import tiny
from tests.unit.models.edge_batches import assert_same, calibration, onnx_forward

OWN: dict[str, Any] = {"share_att_key": False}  # projections of positions apart from those of contents
VARIANTS: list[tuple[Any, dict[str, Any]]] = [  # every setting of the config that changes what is computed, with every head
    ("class", {}),
    ("tags", {**OWN, "norm_rel_ebd": "none"}),
    ("labels", {**OWN, "pos_att_type": ["c2p"], "position_biased_input": True, "pooler_hidden_act": "tanh"}),
    ("value", {"pos_att_type": "p2c", "position_buckets": -1, "layer_norm_eps": 1e-3}),
    ("span", {"position_buckets": -1, "max_relative_positions": 20, **OWN}),
    ("class", {"relative_attention": False, "position_biased_input": True, "hidden_act": "relu"}),
]
CUT = [Kept([0, 2], [1, 5, 9, 40]), Kept([], list(range(20))), Kept([3], [])]


def saved(model: Any, folder: Path) -> Any:
    """Save a model and load it again."""
    tiny.write_tokenizer(folder, "deberta-v2")
    save_model(model, folder, folder)
    return load_model(folder)


@pytest.mark.parametrize(("target", "changes"), VARIANTS, ids=str)
def test_transformers_ours_sliced_reloaded_and_onnx_compute_the_same(target: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "dense", "deberta-v2", target=target, **changes)
    plain = getattr(transformers, family_of("deberta-v2").head_class(target)).from_pretrained(tmp_path / "dense").eval()
    model = load_model(tmp_path / "dense")
    assert_same("deberta-v2", torch_forward(plain), torch_forward(model), onnx_forward(model))
    masked = copy.deepcopy(model)
    mask_model(masked, CUT)
    slice_model(model, CUT)
    again = saved(model, tmp_path)
    forms = GraphForm("mha", "packed", "scores"), GraphForm("onnx", opset=23), GraphForm(scale="scores", opset=17)
    assert_same(
        "deberta-v2",
        torch_forward(model),
        torch_forward(masked),
        torch_forward(again),
        onnx_forward(again),
        *(onnx_forward(again, form) for form in forms),
    )


def test_embedders(tmp_path: Path) -> None:
    tiny.write_embedder(tmp_path, "deberta-v2", ("mean",), dense=8)
    model = load_model(tmp_path)
    slice_model(model, CUT)
    assert_same("deberta-v2", torch_forward(model), onnx_forward(model))


def test_a_head_owns_rows_of_the_projections_of_positions() -> None:
    model = tiny.make_model("deberta-v2", **OWN)
    before = [part.weight.clone() for part in next(encoder_layers(model)).position_projections]
    slice_model(model, CUT)
    kept = [*range(8), *range(16, 24)]  # heads 0 and 2
    after = [part.weight for part in next(encoder_layers(model)).position_projections]
    assert len(after) == 2
    assert all(torch.equal(old[kept], new) for old, new in zip(before, after, strict=True))


def test_what_projections_read_is_the_tokens_not_the_positions() -> None:
    model = tiny.make_model("deberta-v2")
    batch, layer = calibration("deberta-v2", model, 4)[0], next(encoder_layers(model))
    assert layer.query is not None
    with captured_inputs(layer.query) as seen, torch.no_grad():
        _, features = forward_with_features(model, batch, [("query", 1)])
    shape = batch["input_ids"].shape
    assert seen[0].shape == (*shape, tiny.HIDDEN)
    torch.testing.assert_close(features["query", 1], layer.query(seen[0]))


def test_a_refit_brings_the_outputs_back() -> None:
    dense = tiny.make_model("deberta-v2")
    model = copy.deepcopy(dense)
    slice_model(model, [Kept([0, 1, 2], list(range(50))), Kept([], list(range(50))), Kept([0, 1], [])])
    parts, before = calibration("deberta-v2", dense, 40), copy.deepcopy(model)
    reconstruct(model, DenseTargets(dense, parts))
    with torch.no_grad():
        gap = [sum(float((cut(**part).logits - dense(**part).logits).square().sum()) for part in parts) for cut in (before, model)]
    assert gap[1] < gap[0]


@pytest.mark.parametrize("changes", [{}, {**OWN, "norm_rel_ebd": "none"}], ids=str)
def test_narrowed(changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny.make_model("deberta-v2", **changes)
    narrow(model, sorted(np.random.default_rng(0).choice(tiny.HIDDEN, 16, replace=False).tolist()))
    assert model_shape(model).hidden == 16
    again = saved(model, tmp_path)
    assert again.config.attention_head_size == tiny.HEAD_SIZE
    assert_same("deberta-v2", torch_forward(model), torch_forward(again), onnx_forward(model))


def test_scores_of_a_head_are_means_over_its_weights() -> None:
    model = tiny.make_model("deberta-v2")
    for layer, found in zip(encoder_layers(model), torch_pruning_scores(model, "magnitude"), strict=True):
        assert layer.query is not None
        rows = sum(part.weight.square().sum(1) for part in (layer.query, layer.key, layer.value) if part is not None)
        expected = (rows + layer.attention_output.weight.square().sum(0)) / 4
        torch.testing.assert_close(found.heads, expected.detach().double().reshape(-1, tiny.HEAD_SIZE).sum(1), rtol=1e-5, atol=1e-5)


def test_heads_of_another_size_need_shared_projections() -> None:
    shape = Shape(16, 4, (LayerShape(4, 32),) * tiny.LAYERS)
    with pytest.raises(UsageError, match="positions have projections of their own"):
        initialize_by_importance(tiny.make_model("deberta-v2", **OWN), shape, None)  # pyright: ignore[reportArgumentType]


def test_buckets_are_those_of_transformers() -> None:
    from transformers.models.deberta_v2.modeling_deberta_v2 import build_relative_position

    model = tiny.make_model("deberta-v2", target="class")
    states = torch.zeros(1, 50, 4)
    table = build_relative_position(states, states, 8, tiny.POSITIONS)[0]
    keys, queries = buckets_by_distance(model, torch.arange(50)[:, None] - torch.arange(50))
    assert torch.equal(keys, (table + 8).clamp(0, 15))
    assert torch.equal(queries, (8 - table.T).clamp(0, 15))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conv_kernel_size": 3}, "conv_kernel_size"),
        ({"type_vocab_size": 2}, "type_vocab_size"),
        ({"embedding_size": 16}, "embedding_size"),
        ({"pooler_hidden_act": "mish"}, "pooler_hidden_act 'mish'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "deberta-v2")
    tiny.edit_config(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)
