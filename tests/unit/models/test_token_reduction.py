"""Token reduction: what PyTorch masks, the graph gathers; every family computes the same after a reload, in ONNX, and text by text."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import ModelError, UsageError
from compress.export.attention import PLAIN, GraphForm
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.openvino_session import has_openvino, openvino_forward
from compress.models.checkpoint import load_model
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.models.shape import kept_tokens
from compress.models.token_reduction import (
    attention_received,
    kept_counts,
    reduces_tokens,
    select_tokens,
    selection_margins,
    set_token_shares,
)
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny
from tests.unit.models.edge_batches import assert_same, onnx_forward, reload

FAMILIES = ("bert", "roberta", "electra", "distilbert", "mpnet", "modernbert", "deberta-v2", "nomic_bert", "albert", "eurobert")
CHANGES: dict[str, dict[str, Any]] = {"eurobert": {"classifier_pooling": "bos"}}  # its default pools all tokens
SHARES = [0.6, 0.35, 0.2]
CUT = [Kept([0, 2], list(range(20))), Kept([1, 3], [1, 5]), Kept([3], [2])]
FORMS = [PLAIN, GraphForm("mha", "packed"), GraphForm("onnx", opset=23), GraphForm(scale="scores", opset=17)]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_computes_the_same_after_a_reload_and_in_every_form_of_the_graph(family: str, tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "dense", family, **CHANGES.get(family, {}))
    dense, model = load_model(tmp_path / "dense"), load_model(tmp_path / "dense")
    set_token_shares(model, SHARES)
    slice_model(model, CUT if family != "albert" else CUT[:1] * 3)  # which has one layer, used three times
    again = reload(model, tmp_path / "dense", tmp_path / "cut")
    assert [layer.tokens for layer in model_shape(again).layers] == SHARES
    assert_same(family, torch_forward(model), torch_forward(again), *(onnx_forward(again, form) for form in FORMS))
    batch = tiny.encoded(family).batch(range(12))
    assert np.abs(torch_forward(dense)(batch) - torch_forward(model)(batch)).max() > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_has_the_same_logits_in_every_batch(family: str) -> None:
    model = tiny.make_model(family, **CHANGES.get(family, {}))
    set_token_shares(model, SHARES)
    data = tiny.encoded(family)
    for forward in (torch_forward(model), onnx_forward(model)):
        together = forward(data.batch(range(12), pad_to=tiny.POSITIONS))
        alone = np.concatenate([forward(data.batch([number])) for number in range(12)])
        np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
@pytest.mark.parametrize("family", FAMILIES)
def test_openvino_computes_the_same(family: str, tmp_path: Path) -> None:
    model = tiny.make_model(family, **CHANGES.get(family, {}))
    set_token_shares(model, SHARES)
    (tmp_path / "model.onnx").write_bytes(build_graph(model).SerializeToString())
    assert_same(family, torch_forward(model), openvino_forward(tmp_path))


@pytest.mark.parametrize("pooling", [("cls",), ("mean",), ("mean_sqrt_len", "max")], ids=str)
def test_embedders_pool_the_tokens_that_are_left(pooling: tuple[str, ...], tmp_path: Path) -> None:
    tiny.write_embedder(tmp_path / "dense", pooling=pooling, dense=8)
    model = load_model(tmp_path / "dense")
    set_token_shares(model, SHARES)
    again = reload(model, tmp_path / "dense", tmp_path / "cut")
    graph = build_graph(again)
    assert [output.name for output in graph.graph.output] == ["sentence_embedding"]
    assert_same("bert", torch_forward(model), torch_forward(again), onnx_forward(again))
    last = list(encoder_layers(model))[-1]
    object.__setattr__(last.module, "token_share", 1.0)
    batch = tiny.encoded().batch(range(12))
    same = np.abs(torch_forward(model)(batch) - torch_forward(again)(batch)).max() < 1e-6
    assert same == (pooling == ("cls",))  # what the last layer drops is not pooled


@pytest.mark.parametrize("target", ["class", "labels", "value"])
def test_heads_for_whole_texts_and_pairs(target: Any) -> None:
    model = tiny.make_model(target=target)
    set_token_shares(model, [1.0, 0.5, 0.5])
    batch = tiny.encoded(pairs=True).batch(range(12))
    np.testing.assert_allclose(onnx_forward(model)(batch), torch_forward(model)(batch), atol=1e-4)


@pytest.mark.parametrize("target", ["tags", "span"])
def test_heads_for_tokens_are_refused(target: Any) -> None:
    with pytest.raises(UsageError, match="it predicts something for every token"):
        set_token_shares(tiny.make_model(target=target), SHARES)


def test_poolings_that_need_positions_are_refused(tmp_path: Path) -> None:
    model = load_model(tiny.write_embedder(tmp_path / "last", pooling=("lasttoken",)))
    with pytest.raises(UsageError, match="its pooling .lasttoken. depends on the positions of tokens"):
        set_token_shares(model, SHARES)
    with pytest.raises(UsageError, match="classifier_pooling: mean"):
        set_token_shares(tiny.make_model("modernbert", classifier_pooling="mean"), SHARES)
    with pytest.raises(UsageError, match="no transformer layers"):
        set_token_shares(tiny.make_bilstm(), [0.5])


def test_shares_of_one_change_nothing() -> None:
    model = tiny.make_model()
    set_token_shares(model, [1.0] * tiny.LAYERS)
    assert not reduces_tokens(model)
    assert not any(module._forward_hooks for module in model.modules())
    reduced = tiny.make_model()
    set_token_shares(reduced, SHARES)
    set_token_shares(reduced, [1.0] * tiny.LAYERS)
    batch = tiny.encoded().batch(range(12))
    np.testing.assert_allclose(torch_forward(reduced)(batch), torch_forward(model)(batch), atol=1e-6)


def test_a_layer_without_heads_selects_nothing() -> None:
    model = tiny.make_model()
    set_token_shares(model, [1.0, 0.3, 0.5])
    slice_model(model, [Kept([0], [1]), Kept([], [1]), Kept([0], [1])])
    shape = model_shape(model)
    assert shape.token_shares == (1.0, 1.0, 0.5)
    assert_same("bert", torch_forward(model), onnx_forward(model))


def test_a_malformed_share_is_refused(tmp_path: Path) -> None:
    model = tiny.make_model()
    set_token_shares(model, SHARES)
    tiny.write_checkpoint(tmp_path / "dense")
    reload(model, tmp_path / "dense", tmp_path / "cut")
    path = tmp_path / "cut" / "config.json"
    config = json.loads(path.read_text())
    for share in (0, -0.5, 1.5, True, "half"):
        config["compress"]["layers"][1]["tokens"] = share
        path.write_text(json.dumps(config))
        with pytest.raises(ModelError, match="not a share above 0, up to 1"):
            load_model(tmp_path / "cut")


def test_the_first_token_and_the_most_attended_stay_and_of_equals_the_earlier() -> None:
    weights = torch.tensor([[0.0, 0.3, 0.2, 0.3, 0.2], [0.0, 0.1, 0.5, 0.1, 0.3]])[:, None, None, :].expand(2, 1, 5, 5)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]).bool()
    received = attention_received(weights, mask)
    kept = select_tokens(received, mask, torch.tensor([2, 3]))
    assert kept.tolist() == [[True, True, False, False, False], [True, True, True, False, False]]
    np.testing.assert_allclose(selection_margins(received, kept), [0, 0], atol=1e-6)
    np.testing.assert_allclose(selection_margins(received, select_tokens(received, mask, torch.tensor([3, 2]))), [1 / 3, 0.8], atol=1e-6)
    assert torch.isinf(selection_margins(received, mask)).all()


def test_padding_is_neither_counted_nor_asked() -> None:
    weights = torch.zeros(1, 1, 4, 4)
    weights[0, 0, :3, 1], weights[0, 0, 3, 2] = 0.1, 9.0  # the query of the padding attends to token 2
    mask = torch.tensor([[1, 1, 1, 0]]).bool()
    assert select_tokens(attention_received(weights, mask), mask, torch.tensor([2])).tolist() == [[True, True, False, False]]


def test_counts_are_those_of_whole_numbers() -> None:
    lengths = np.arange(1, 300)
    mask = torch.from_numpy(np.arange(300)[None] < lengths[:, None])
    for share in (0.1, 0.7, 0.333, 1.0):
        assert kept_counts(mask, share).tolist() == [kept_tokens(int(length), share) for length in lengths]
    assert [kept_tokens(length, 0.7) for length in (3, 8, 10, 20, 100)] == [3, 8, 8, 14, 70]


def test_threads_keep_their_own_tokens() -> None:
    model, data = tiny.make_model(), tiny.encoded(count=32)
    set_token_shares(model, SHARES)
    forward = torch_forward(model)
    batches = [data.batch(range(start, start + 4)) for start in range(0, 32, 4)] * 4
    expected = [forward(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(forward, batches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_gradients_reach_weights_through_the_tokens_that_are_left() -> None:
    model = tiny.make_model()
    set_token_shares(model, SHARES)
    batch = {name: torch.from_numpy(array) for name, array in tiny.encoded().batch(range(12)).items()}
    embedded = model.bert.embeddings(batch["input_ids"]).detach().requires_grad_()
    model(inputs_embeds=embedded, attention_mask=batch["attention_mask"]).logits.square().sum().backward()
    assert embedded.grad is not None
    assert (embedded.grad[batch["attention_mask"].bool()].abs().sum(-1) > 0).all()  # every token is read before any is dropped
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.bert.encoder.parameters())
