"""Factorized models: PyTorch, a reloaded checkpoint and ONNX agree; sizes count the factors; hostile configs are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from compress.core.errors import ModelError, UsageError
from compress.distill.students import take_layers
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.adapters import refuse_adapters
from compress.models.checkpoint import load_model, save_model
from compress.models.layers import encoder_layers
from compress.models.low_rank import (
    FactoredEmbedding,
    FactoredLinear,
    encoder_linears,
    is_factorized,
    refuse_factorized,
    replace_linear,
    set_word_embeddings,
    word_embeddings,
)
from compress.models.model_shape import count_params, model_shape, record_shape
from compress.models.shape import CONFIG_KEY, Shape, config_entry, shape_of_config
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

KEPT = [Kept([0, 3], [1, 2, 9]), Kept([], [5]), Kept([1], [])]
RANK = 7  # of the embeddings


def factorized(family: str = "bert", kept: list[Kept] | None = None, words: bool = True, **options: Any) -> Any:
    """Return a tiny model with random factors of several ranks in two thirds of its linears, and in its words."""
    model = tiny.make_model(family, **options)
    if kept is not None:
        slice_model(model, kept)
    torch.manual_seed(5)
    stack = list(encoder_layers(model))
    for position, (number, role, linear) in enumerate(list(encoder_linears(model))):
        if position % 3 != 1:
            replace_linear(model, stack[number], role, FactoredLinear(linear.in_features, linear.out_features, 1 + position % 4))
    if words:
        old = word_embeddings(model)
        set_word_embeddings(model, FactoredEmbedding(old.num_embeddings, old.embedding_dim, RANK, old.padding_idx))
        torch.nn.init.normal_(word_embeddings(model).project.bias, std=0.2)
    return model.eval()


def saved(model: Any, family: str, folder: Path) -> Path:
    """Save a model with its tokenizer."""
    folder.mkdir()
    tiny.write_tokenizer(folder, family)
    save_model(model, folder, folder)
    return folder


def answers(model: Any, data: Any) -> np.ndarray:
    """The logits of the model's graph."""
    return run_batches(session_forward(open_session(build_graph(model).SerializeToString(), 1, "cpu", RUNTIME_HINTS)), data)


def test_two_matrices_by_hand() -> None:
    linear, table = FactoredLinear(5, 4, 2), FactoredEmbedding(6, 4, 2)
    states, ids = torch.randn(3, 5), torch.tensor([[1, 5]])
    torch.testing.assert_close(linear(states), states @ (linear.up.weight @ linear.down.weight).T + linear.up.bias)
    torch.testing.assert_close(table(ids), (table.table.weight @ table.project.weight.T + table.project.bias)[ids])


@pytest.mark.parametrize("kept", [None, KEPT], ids=["dense", "pruned"])
def test_torch_reloaded_and_onnx_agree(family: str, kept: list[Kept] | None, tmp_path: Path) -> None:
    model, data = factorized(family, kept), tiny.encoded(family, 20)
    expected = run_batches(torch_forward(model), data)
    again = load_model(saved(model, family, tmp_path / "saved"))
    assert (count_params(again), model_shape(again)) == (count_params(model), model_shape(model))
    assert model_shape(again).layers[0].ranks
    np.testing.assert_array_equal(run_batches(torch_forward(again), data), expected)
    np.testing.assert_allclose(answers(again, data), expected, atol=1e-4)


@pytest.mark.parametrize("target", ["labels", "value", "tags", "span"])
def test_every_head_is_exported(target: Any, tmp_path: Path) -> None:
    model, data = factorized("distilbert", target=target), tiny.encoded("distilbert")
    again = load_model(saved(model, "distilbert", tmp_path / "saved"))
    np.testing.assert_allclose(answers(again, data), run_batches(torch_forward(model), data), atol=1e-4)


def test_the_graph_has_two_products_for_each_factorized_linear() -> None:
    model = factorized()
    nodes = [node.name for node in build_graph(model).graph.node if node.op_type == "Gemm" and node.name.endswith(".down")]
    assert len(nodes) == sum(len(layer.ranks) for layer in model_shape(model).layers)
    assert any(node.name == "embeddings.words.project" for node in build_graph(model).graph.node)


def test_sizes_are_those_that_pytorch_counts(family: str) -> None:
    model = factorized(family, KEPT)
    words = word_embeddings(model)
    counted = sum(parameter.numel() for parameter in words.project.parameters())
    for layer in encoder_layers(model):
        for linear in (layer.query, layer.key, layer.value, layer.attention_output, layer.ffn_in, layer.ffn_out):
            counted += sum(parameter.numel() for parameter in linear.parameters()) if linear is not None else 0
    assert model_shape(model).params() == counted


def test_flops_are_those_that_pytorch_counts() -> None:
    model = factorized(kept=[Kept([0, 3], [1, 2, 9]), Kept([1], [5]), Kept([1, 2, 3], [])])
    model.config._attn_implementation = "eager"
    with FlopCounterMode(display=False) as counter:
        word_embeddings(model)(torch.ones((1, 9), dtype=torch.int64))
        model.bert.encoder(torch.zeros((1, 9, tiny.HIDDEN)))
    assert model_shape(model).flops(9) == counter.get_total_flops()


def test_shape_survives_the_config(family: str) -> None:
    model = factorized(family, KEPT)
    record_shape(model, model_shape(model))
    assert getattr(model.config, CONFIG_KEY) == config_entry(model_shape(model))
    assert shape_of_config(model.config.to_dict()) == model_shape(model)


def test_the_config_records_ranks_and_a_second_saving_keeps_them(tmp_path: Path) -> None:
    folder = saved(factorized(), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    assert (entry["version"], entry["embedding_rank"]) == (1, RANK)
    assert entry["layers"][0] == {
        "heads": tiny.HEADS,
        "ffn": tiny.FFN,
        "ranks": {"query": 1, "value": 3, "attention_output": 4, "ffn_out": 2},
    }
    twice = saved(load_model(folder), "bert", tmp_path / "twice")
    assert json.loads((twice / "config.json").read_text())["compress"] == entry


def test_shallower_students_keep_their_ranks(tmp_path: Path) -> None:
    student = take_layers(factorized(), 2)
    again = load_model(saved(student, "bert", tmp_path / "student"))
    assert model_shape(again) == model_shape(student)
    np.testing.assert_array_equal(run_batches(torch_forward(again), tiny.encoded()), run_batches(torch_forward(student), tiny.encoded()))


@pytest.mark.parametrize("rank", [0, -1, True, "6", None, 1 << 20])
def test_hostile_ranks_are_refused(rank: Any, tmp_path: Path) -> None:
    folder = saved(factorized(), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    tiny.edit_config(folder, compress={**entry, "embedding_rank": rank})
    with pytest.raises(ModelError, match="embedding_rank is"):
        load_model(folder)
    layer = {**entry["layers"][0], "ranks": {"query": rank}}
    tiny.edit_config(folder, compress={**entry, "layers": [layer, *entry["layers"][1:]]})
    with pytest.raises(ModelError, match="the rank of query is"):
        load_model(folder)


@pytest.mark.parametrize("ranks", [[], "query", {"pooler": 3}, {"query": 4, "weight": 2}])
def test_malformed_ranks_are_refused(ranks: Any, tmp_path: Path) -> None:
    folder = saved(factorized(), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    layer = {**entry["layers"][0], "ranks": ranks}
    tiny.edit_config(folder, compress={**entry, "layers": [layer, *entry["layers"][1:]]})
    with pytest.raises(ModelError, match="malformed ranks"):
        load_model(folder)


def test_weights_of_other_ranks_are_refused(tmp_path: Path) -> None:
    folder = saved(factorized(), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    tiny.edit_config(folder, compress={**entry, "embedding_rank": RANK + 1})
    with pytest.raises(ModelError, match="the weights do not fit"):
        load_model(folder)


def test_new_labels_need_the_model_it_was_made_from(tmp_path: Path) -> None:
    folder = saved(factorized(), "bert", tmp_path / "saved")
    with pytest.raises(ModelError, match="is a factorized model for other labels"):
        load_model(folder, labels=["a", "b"])


def test_prune_refuses_factorized_models() -> None:
    plain = tiny.make_model()
    assert not is_factorized(plain)
    refuse_factorized(plain, "prune")
    refuse_adapters(factorized(), "prune")
    with pytest.raises(UsageError, match="prune does not support factorized models"):
        refuse_factorized(factorized(words=False), "prune")
    assert model_shape(plain) == Shape(tiny.HIDDEN, tiny.HEAD_SIZE, model_shape(plain).layers)
