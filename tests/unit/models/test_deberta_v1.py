"""DeBERTa (v1): transformers = ours = sliced = reloaded = ONNX; its interleaved matrix, and projections of positions of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.editing.width import narrow
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.family import family_of
from compress.models.interleaved import join_heads, split_heads
from compress.models.layers import encoder_layers
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny
from tests.unit.models.edge_batches import (
    assert_same,
    assert_sliced_embedder_is_the_same,
    assert_sliced_is_the_same,
    calibration,
    onnx_forward,
)
from tests.unit.models.folders import refused

NAME = "deberta"
VARIANTS: list[tuple[Any, dict[str, Any]]] = [
    ("class", {}),  # distances beyond 24 are as that
    ("labels", {"pos_att_type": ["p2c"], "max_relative_positions": -1}),
    ("value", {"pos_att_type": ["c2p"], "position_biased_input": True, "pooler_hidden_act": "tanh"}),
    ("tags", {"relative_attention": False, "pos_att_type": []}),
    ("span", {}),
]
CUT = [Kept([0, 2], [1, 5, 9, 40]), Kept([], list(range(20))), Kept([3], [])]


@pytest.mark.parametrize(("target", "changes"), VARIANTS, ids=str)
def test_transformers_ours_sliced_reloaded_and_onnx_compute_the_same(target: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    assert_sliced_is_the_same(NAME, target, changes, CUT, tmp_path)


def test_an_embedder(tmp_path: Path) -> None:
    assert_sliced_embedder_is_the_same(NAME, ("mean",), CUT, tmp_path)


def test_a_dense_model_is_saved_as_transformers_has_it(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "first", NAME)
    (tmp_path / "second").mkdir()
    model = load_model(tmp_path / "first")
    assert all(isinstance(norm, nn.LayerNorm) for layer in encoder_layers(model) for norm in layer.norms)
    save_model(model, tmp_path / "second", tmp_path / "first")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_heads_take_turns_in_the_joined_matrix() -> None:
    family = family_of(NAME)
    state = {"attention.self.in_proj.weight": torch.arange(12.0)[:, None], "attention.self.q_bias": torch.ones(4)}
    state["attention.self.v_bias"] = torch.zeros(4)
    split = split_heads(state, family, 2)
    assert split["attention.self.in_proj.key.weight"].flatten().tolist() == [2, 3, 8, 9]
    assert split["attention.self.in_proj.query.bias"].tolist() == [1, 1, 1, 1]
    joined = join_heads(split, family, 2)
    assert joined.keys() == state.keys()
    assert all(torch.equal(joined[name], state[name]) for name in state)
    factorized = {"attention.self.in_proj.query.down.weight": torch.ones(1, 3)}
    assert join_heads(factorized, family, 2) == factorized


def test_a_refit_and_a_narrower_model(tmp_path: Path) -> None:
    dense, model = tiny.make_model(NAME), tiny.make_model(NAME)
    slice_model(model, [Kept([0, 1, 2], list(range(50))), Kept([], list(range(50))), Kept([0, 1], [])])
    errors = reconstruct(model, DenseTargets(dense, calibration(NAME, dense, 20)))
    assert errors[2]["ffn_after"] < errors[2]["ffn_before"]
    narrow(model, sorted(np.random.default_rng(0).choice(tiny.HIDDEN, 16, replace=False).tolist()))
    tiny.write_tokenizer(tmp_path, NAME)
    save_model(model, tmp_path, tmp_path)
    assert_same(NAME, torch_forward(model), torch_forward(load_model(tmp_path)), onnx_forward(model))


@pytest.mark.parametrize("changes", [{"talking_head": True}, {"type_vocab_size": 2}], ids=str)
def test_what_is_not_computed_is_refused_by_name(changes: dict[str, Any], tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, NAME)
    assert next(iter(changes)) in refused(tiny.edit_config(tmp_path, **changes)).message
