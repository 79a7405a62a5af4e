"""NomicBERT: transformers = ours = sliced = reloaded = ONNX for every setting; configs and weights as their authors published them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from compress.core.errors import ModelError
from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.editing.width import narrow
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.config import read_config
from compress.models.masked_lm import load_masked_lm
from compress.models.model_shape import model_shape
from compress.models.shape import BIASES_KEY, CONFIG_KEY
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

NAME = "nomic_bert"
LINEAR = {"rope_type": "linear", "rope_theta": 50.0, "factor": 3.0}
VARIANTS: list[tuple[Any, dict[str, Any]]] = [
    ("class", {}),
    ("labels", {"hidden_act": "gelu", "layer_norm_eps": 1e-2}),
    ("value", {"rope_parameters": LINEAR}),
    ("tags", {"type_vocab_size": 3}),
    ("span", {}),
]
CUT = [Kept([0, 2], [1, 5, 9, 40]), Kept([], list(range(20))), Kept([3], [])]
PUBLISHED = {  # as nomic-embed-text-v1 has it, with the sizes of our tiny models
    "model_type": NAME, "architectures": ["NomicBertModel"], "n_embd": tiny.HIDDEN, "n_layer": tiny.LAYERS, "n_head": tiny.HEADS,
    "n_inner": tiny.FFN, "n_positions": 512, "max_trained_positions": tiny.POSITIONS, "rotary_scaling_factor": 2, "rotary_emb_base": 100.0,
    "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None, "activation_function": "swiglu",
    "prenorm": False, "qkv_proj_bias": False, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "use_rms_norm": False, "causal": False,
    "layer_norm_epsilon": 1e-12, "type_vocab_size": 2, "vocab_size": len(tiny.vocabulary()), "attn_pdrop": 0.0, "embd_pdrop": 0.0,
    "auto_map": {"AutoModel": "modeling_hf_nomic_bert.NomicBertModel", "AutoConfig": "x/y--configuration_hf_nomic_bert.NomicBertConfig"},
}  # fmt: skip


@pytest.mark.parametrize(("target", "changes"), VARIANTS, ids=str)
def test_transformers_ours_sliced_reloaded_and_onnx_compute_the_same(target: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    assert_sliced_is_the_same(NAME, target, changes, CUT, tmp_path)


def test_plain_transformers_loads_a_dense_model_that_compress_saved(tmp_path: Path) -> None:
    model = tiny.make_model(NAME)
    tiny.write_tokenizer(tmp_path, NAME)
    save_model(model, tmp_path, tmp_path)
    plain: Any = transformers.NomicBertForSequenceClassification.from_pretrained(tmp_path).eval()
    assert_same(NAME, torch_forward(model), torch_forward(plain))


def test_embedders(tmp_path: Path) -> None:
    assert_sliced_embedder_is_the_same(NAME, ("mean", "max"), CUT, tmp_path)


def test_a_refit_adds_biases_which_our_entry_records(tmp_path: Path) -> None:
    dense = tiny.make_model(NAME)
    model = copy.deepcopy(dense)
    slice_model(model, [Kept([0, 1, 2], list(range(50))), Kept([], list(range(50))), Kept([0, 1], [])])
    errors = reconstruct(model, DenseTargets(dense, calibration(NAME, dense, 40)))
    assert errors[2]["ffn_after"] < errors[2]["ffn_before"]  # no neuron is left: only a bias can help
    tiny.write_tokenizer(tmp_path, NAME)
    save_model(model, tmp_path, tmp_path)
    assert read_config(tmp_path)[CONFIG_KEY][BIASES_KEY] is True
    assert_same(NAME, torch_forward(model), torch_forward(load_model(tmp_path)), onnx_forward(model))
    refused(tiny.edit_config(tmp_path, compress={**read_config(tmp_path)[CONFIG_KEY], BIASES_KEY: 1}))


def test_a_refit_keeps_a_plain_checkpoint_plain() -> None:
    dense = tiny.make_model(NAME)
    model = copy.deepcopy(dense)
    slice_model(model, [Kept([0, 1, 2, 3], list(range(48)))] * tiny.LAYERS)
    errors = reconstruct(model, DenseTargets(dense, calibration(NAME, dense, 40)))
    assert errors[0]["ffn_after"] < errors[0]["ffn_before"]
    assert not hasattr(model.config, CONFIG_KEY)
    assert not any(name.endswith("down_proj.bias") for name, _ in model.named_parameters())


def test_a_narrowed_model_keeps_its_rotations(tmp_path: Path) -> None:
    model = tiny.make_model(NAME)
    narrow(model, sorted(np.random.default_rng(0).choice(tiny.HIDDEN, 16, replace=False).tolist()))
    assert model_shape(model).hidden == 16
    tiny.write_tokenizer(tmp_path, NAME)
    save_model(model, tmp_path, tmp_path)
    assert_same(NAME, torch_forward(model), torch_forward(load_model(tmp_path)), onnx_forward(model))


def write_published(folder: Path, prefix: str = "", **changes: Any) -> Path:
    """Write an encoder with the names of its authors, of keys and of weights."""
    folder.mkdir(exist_ok=True)
    tiny.write_encoder(folder, NAME)  # transformers saves weights by the names of the authors
    weights = {f"{prefix}{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    assert f"{prefix}encoder.layers.0.mlp.fc11.weight" in weights
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps({**PUBLISHED, **changes}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_a_published_encoder_opens_as_an_embedder_and_as_a_classifier(prefix: str, tmp_path: Path) -> None:
    write_published(tmp_path, prefix)
    assert read_config(tmp_path)["max_position_embeddings"] == tiny.POSITIONS  # beyond it the authors' code turns faster
    embedder = load_model(tmp_path, target="vector", pooling="mean")
    expected: Any = tiny.make_model(NAME).base_model
    data = tiny.encoded(NAME).batch([0])
    with torch.no_grad():
        states = expected(**{name: torch.from_numpy(array) for name, array in data.items()}).last_hidden_state
    np.testing.assert_allclose(torch_forward(embedder)(data), states.mean(1).numpy(), atol=1e-5)
    classifier = load_model(tmp_path, labels=["a", "b"])
    assert not hasattr(classifier.config, "auto_map")
    assert_same(NAME, torch_forward(classifier), onnx_forward(classifier))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prenorm": True}, "prenorm True"),
        ({"qkv_proj_bias": True}, "qkv_proj_bias True"),
        ({"num_experts": 8}, "num_experts 8"),
        ({"rotary_emb_fraction": 0.5}, "rotary_emb_fraction 0.5"),
        ({"activation_function": "gelu"}, "activation_function 'gelu'"),
        ({"auto_map": {"AutoModel": "modeling_hf_nomic_bert.Other"}}, "'auto_map'"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 9.0}}, "rotary positions 'dynamic'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_published(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path, labels=["a", "b"])


def test_heads_of_another_size_than_the_width_implies_are_refused(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, NAME)
    assert "head_dim" in refused(tiny.edit_config(tmp_path, head_dim=16)).message


def test_its_masked_language_model_proposes_words(tmp_path: Path) -> None:
    load_masked_lm(tiny.write_masked_lm(tmp_path, NAME))
