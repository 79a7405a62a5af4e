"""EuroBERT: transformers = ours = sliced = reloaded = ONNX for every setting; RMSNorms, and keys and values that heads share."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from compress.core.errors import ModelError
from compress.editing.layer_norms import hidden_norms, match_layer_norms
from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.editing.width import narrow
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.config import read_config
from compress.models.grouped_heads import equal_heads, kept_groups
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
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

NAME = "eurobert"
BIASES: dict[str, Any] = {"attention_bias": True, "mlp_bias": True}
VARIANTS: list[tuple[Any, dict[str, Any]]] = [
    ("class", {}),
    ("class", {"classifier_pooling": "bos", "num_key_value_heads": 1, **BIASES}),
    ("labels", {"classifier_pooling": "mean", "rms_norm_eps": 1e-2, "hidden_act": "gelu"}),
    ("value", {"num_key_value_heads": tiny.HEADS}),
    ("tags", BIASES),
    ("span", {"rope_parameters": {"rope_type": "linear", "rope_theta": 50.0, "factor": 3.0}}),
]
CUT = [Kept([0, 1, 3], [1, 5, 9, 40]), Kept([], list(range(20))), Kept([3], [])]


@pytest.mark.parametrize(("target", "changes"), VARIANTS, ids=str)
def test_transformers_ours_sliced_reloaded_and_onnx_compute_the_same(target: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    assert_sliced_is_the_same(NAME, target, changes, CUT, tmp_path)


@pytest.mark.parametrize("pooling", [("cls",), ("mean", "lasttoken")])
def test_embedders(pooling: tuple[str, ...], tmp_path: Path) -> None:
    assert_sliced_embedder_is_the_same(NAME, pooling, CUT, tmp_path)


def test_a_dense_model_is_saved_as_transformers_has_it(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "first", NAME)
    (tmp_path / "second").mkdir()
    model = load_model(tmp_path / "first")
    assert model.config.num_key_value_heads == tiny.HEADS  # in memory
    save_model(model, tmp_path / "second", tmp_path / "first")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert first["model.layers.0.self_attn.k_proj.weight"].shape == (tiny.HIDDEN // 2, tiny.HIDDEN)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert read_config(tmp_path / "second")["num_key_value_heads"] == tiny.HEADS // 2


def test_the_graph_computes_shared_keys_and_values_once() -> None:
    model = tiny.make_model(NAME)
    slice_model(model, [Kept([0, 1, 3], [0]), Kept([1, 2], [0]), Kept([2, 3], [0])])
    widths = {
        tensor.name: tensor.dims[1] // tiny.HEAD_SIZE
        for tensor in build_graph(model).graph.initializer
        if tensor.name.endswith("key.weight")
    }
    assert widths == {f"layer.{number}.attention.key.weight": count for number, count in enumerate((2, 2, 1))}


def test_groups_stay_groups_in_training() -> None:
    model = tiny.make_model(NAME)
    attention = next(encoder_layers(model))
    assert attention.key is not None
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with kept_groups(model, tiny.HEAD_SIZE):
        for batch in calibration(NAME, model):
            model(**batch).logits.square().sum().backward()
            optimizer.step()
    assert equal_heads(attention.key.weight, None, tiny.HEADS) == [0, 0, 2, 2]
    model(**batch).logits.square().sum().backward()
    optimizer.step()
    assert equal_heads(attention.key.weight, None, tiny.HEADS) == [0, 1, 2, 3]


def test_both_runtimes_fuse_the_norm(tmp_path: Path) -> None:
    graph, norms = build_graph(tiny.make_model(NAME)).SerializeToString(), 2 * tiny.LAYERS + 1
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert sum("SimplifiedLayerNorm" in kind for kind in kinds) == norms
    core = pytest.importorskip("openvino").Core()
    compiled = core.compile_model(core.read_model(graph), "CPU").get_runtime_model()
    assert [str(node.get_rt_info()["layerType"].astype(str)) for node in compiled.get_ops()].count("RMS") == norms


def test_a_refit_brings_the_residual_stream_back_and_adds_biases(tmp_path: Path) -> None:
    dense = tiny.make_model(NAME)
    model = copy.deepcopy(dense)
    slice_model(model, [Kept([0, 1, 2], list(range(50))), Kept([], list(range(50))), Kept([0, 1], [])])
    errors = reconstruct(model, DenseTargets(dense, calibration(NAME, dense, 40)))
    assert all(error["attention_after"] <= error["attention_before"] for error in errors)
    assert errors[2]["ffn_after"] < errors[2]["ffn_before"]  # no neuron is left: only a bias can help
    tiny.write_tokenizer(tmp_path, NAME)
    save_model(model, tmp_path, tmp_path)
    again = load_model(tmp_path)
    assert again.config.mlp_bias
    assert_same(NAME, torch_forward(model), torch_forward(again), onnx_forward(again))


def test_norms_of_a_narrowed_model_match_mean_squares(tmp_path: Path) -> None:
    dense = tiny.make_model(NAME)
    model = copy.deepcopy(dense)
    kept = sorted(np.random.default_rng(0).choice(tiny.HIDDEN, 16, replace=False).tolist())
    narrow(model, kept)
    assert model_shape(model).hidden == 16
    assert [len(norm.weight) for norm in hidden_norms(model)] == [16] * (2 * tiny.LAYERS + 1)
    batches = calibration(NAME, dense)
    match_layer_norms(dense, model, kept, batches)
    squares = []
    for each in (dense, model):
        states = [each.model(**batch).last_hidden_state[batch["attention_mask"].bool()] for batch in batches]
        squares.append(torch.cat(states).square().mean(0))
    torch.testing.assert_close(squares[1], squares[0][kept], rtol=1e-3, atol=1e-5)
    tiny.write_tokenizer(tmp_path, NAME)
    save_model(model, tmp_path, tmp_path)
    assert_same(NAME, torch_forward(model), torch_forward(load_model(tmp_path)), onnx_forward(model))


def test_published_configs_name_code_that_never_runs(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, NAME)
    tiny.edit_config(tmp_path, auto_map={"AutoModel": "modeling_eurobert.EuroBertModel"})
    assert not hasattr(load_model(tmp_path).config, "auto_map")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier_pooling": "cls"}, "classifier_pooling 'cls'"),
        ({"num_key_value_heads": 3}, "num_key_value_heads is 3"),
        ({"auto_map": {"AutoModel": "modeling_eurobert.Other"}}, "'auto_map'"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 9.0}}, "rotary positions 'longrope'"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, NAME)
    assert message in refused(tiny.edit_config(tmp_path, **changes)).message
    with pytest.raises(ModelError):
        load_model(tmp_path)
