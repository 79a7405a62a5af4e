"""Narrowing: the same numbers as a computation written out with index selection, in every form that a model takes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from compress.core.errors import UsageError
from compress.editing.layer_norms import hidden_norms
from compress.editing.width import fitting_width, hidden_scores, narrow, top_positions
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.device import to_tensors
from compress.models.family import TOKEN_HEADS, family_of
from compress.models.layers import encoder_layers, find_submodule
from compress.models.model_shape import model_shape
from compress.models.relative_positions import COLUMNS
from compress.models.task_loss import logits_of
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny
from tests.conftest import FAMILIES
from tests.pairwise import pairwise

CPU = torch.device("cpu")
TOLERANCE = 1e-4
TARGETS = ["class", "labels", "value", "tags", "span"]
# Scattered, so that the order of a set of these is not theirs: {3, 9, 20, 31} iterates as 9, 3, 20, 31.
FEW = [3, 9, 20, 31]
HALF = [0, 2, 3, 5, 8, 9, 11, 13, 17, 18, 20, 22, 25, 28, 30, 31]
MOST = [number for number in range(tiny.HIDDEN) if number not in {1, 14, 15, 29}]
PRUNED = [Kept([0, 3], [1, 5, 63]), Kept([], [2]), Kept([1], [])]
WIDTHS = {"few": FEW, "half": HALF, "most": MOST}
SHAPES = {"dense": None, "pruned": PRUNED, "nothing left": [Kept([], [])] * tiny.LAYERS}
ALL_BUT_XLMR = [name for name in tiny.FAMILIES if name != "xlm-roberta"]


def batch_of(family: str, model: Any, count: int = 8) -> Any:
    """Return a padded batch of pairs of many lengths."""
    return to_tensors(tiny.encoded(family, count, pairs=True).batch(range(count)), model, CPU)


def reference(model: Any, kept: list[int], batch: Any) -> torch.Tensor:
    """Run the wide model with every weight indexed by the kept dimensions where it is used; LayerNorms see these only.

    Independent of torch-pruning, of transformers' forward pass and of the narrowed model.
    """
    family = family_of(model.config.model_type)
    encoder, index = find_submodule(model, family.encoder), torch.tensor(kept)
    embeddings, size = encoder.embeddings, model_shape(model).head_size
    project = getattr(encoder, "embeddings_project", None)

    def normed(state: torch.Tensor, norm: Any, chosen: torch.Tensor = index) -> torch.Tensor:
        centred = state - state.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + norm.eps).sqrt()
        return scaled * norm.weight[chosen] + norm.bias[chosen]

    ids, mask = batch["input_ids"], batch["attention_mask"]
    columns = index if project is None else torch.arange(embeddings.word_embeddings.embedding_dim)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    if family.positions_after_padding:
        real = (ids != model.config.pad_token_id).long()
        positions = real.cumsum(1) * real + model.config.pad_token_id
    state = embeddings.word_embeddings.weight[ids] + embeddings.position_embeddings.weight[positions]
    if family.token_types:
        types = batch.get("token_type_ids", torch.zeros_like(ids))
        state = state + embeddings.token_type_embeddings.weight[types]
    state = normed(state[..., columns], embeddings.LayerNorm, columns)
    if project is not None:
        state = state @ project.weight[index].T + project.bias[index]
    for layer in encoder_layers(model):
        context = state[..., :0]
        if layer.query is not None and layer.key is not None and layer.value is not None:
            query, key, value = (
                (state @ part.weight[:, index].T + part.bias).unflatten(-1, (-1, size)).transpose(1, 2)
                for part in (layer.query, layer.key, layer.value)
            )
            scores = query @ key.transpose(2, 3) / size**0.5
            if family.position_bias:
                every = encoder.encoder.compute_position_bias(state)
                scores = scores + every[:, getattr(layer.module.attention.attn, COLUMNS, slice(None))]
            weights = scores.masked_fill(mask[:, None, None] == 0, -1e9).softmax(-1)
            context = (weights @ value).transpose(1, 2).flatten(2)
        out = layer.attention_output
        state = normed(context @ out.weight[index].T + out.bias[index] + state, layer.attention_norm)
        inner = functional.gelu(state @ layer.ffn_in.weight[:, index].T + layer.ffn_in.bias)
        state = normed(inner @ layer.ffn_out.weight[index].T + layer.ffn_out.bias[index] + state, layer.output_norm)
    head = type(model).__name__.removeprefix(family.prefix)
    if head in TOKEN_HEADS:
        last = find_submodule(model, family.last_linear("tags" if head == "ForTokenClassification" else "span"))
        return state @ last.weight[:, index].T + last.bias
    inner, last, activation = {
        "bert": lambda: (model.bert.pooler.dense, model.classifier, torch.tanh),
        "roberta": lambda: (model.classifier.dense, model.classifier.out_proj, torch.tanh),
        "xlm-roberta": lambda: (model.classifier.dense, model.classifier.out_proj, torch.tanh),
        "mpnet": lambda: (model.classifier.dense, model.classifier.out_proj, torch.tanh),
        "electra": lambda: (model.classifier.dense, model.classifier.out_proj, functional.gelu),
        "distilbert": lambda: (model.pre_classifier, model.classifier, torch.relu),
    }[family.model_type]()
    return last(activation(state[:, 0] @ inner.weight[:, index].T + inner.bias))


def reloaded(model: Any, family: str, folder: Path) -> Any:
    """Save and load."""
    folder.mkdir(exist_ok=True)
    tiny.write_tokenizer(folder, family)
    save_model(model, folder, folder)
    return load_model(folder)


def arrays(family: str) -> dict[str, np.ndarray]:
    """Return the batch of `batch_of` as the runtimes take it."""
    return tiny.encoded(family, 8, pairs=True).batch(range(8))


def everywhere(model: Any, family: str, folder: Path) -> list[np.ndarray]:
    """Return the logits of a model as it stands, reloaded, and in ONNX Runtime, all on one batch."""
    again = reloaded(model, family, folder)
    session = open_session(build_graph(again).SerializeToString(), 1, "cpu", RUNTIME_HINTS)
    return [forward(arrays(family)) for forward in (torch_forward(model), torch_forward(again), session_forward(session))]


@pytest.mark.parametrize(("family", "target", "kept", "pruned"), pairwise(ALL_BUT_XLMR, TARGETS, list(WIDTHS), list(SHAPES)))
def test_narrowed_equals_the_reference_reloaded_and_onnx(family: str, target: Any, kept: str, pruned: str, tmp_path: Path) -> None:
    model, positions = tiny.make_model(family, target=target), WIDTHS[kept]
    if SHAPES[pruned]:
        slice_model(model, SHAPES[pruned])
    before = model_shape(model)
    with torch.no_grad():
        expected = reference(model, positions, batch_of(family, model)).numpy()
    narrow(model, positions)
    shape = model_shape(model)
    assert (shape.hidden, shape.head_size, shape.layers) == (len(positions), before.head_size, before.layers)
    compared = arrays(family)["attention_mask"].astype(bool) if target in ("tags", "span") else ...
    for result in everywhere(model, family, tmp_path):
        np.testing.assert_allclose(result[compared], expected[compared], rtol=0, atol=TOLERANCE)
    assert model_shape(load_model(tmp_path)) == shape


def test_the_reference_is_the_model_where_all_is_kept(family: str) -> None:
    model = tiny.make_model(family)
    with torch.no_grad():
        batch = batch_of(family, model)
        torch.testing.assert_close(reference(model, list(range(tiny.HIDDEN)), batch), model(**batch).logits, rtol=0, atol=TOLERANCE)


def test_pruning_after_narrowing_is_pruning_before_it(family: str, tmp_path: Path) -> None:
    first, second = tiny.make_model(family), tiny.make_model(family)
    slice_model(first, PRUNED)
    narrow(first, HALF)
    narrow(second, HALF)
    second = reloaded(second, family, tmp_path / "half")
    slice_model(second, PRUNED)
    left, right = first.state_dict(), second.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
    result = everywhere(second, family, tmp_path / "both")
    np.testing.assert_allclose(result, [torch_forward(first)(arrays(family))] * 3, rtol=0, atol=TOLERANCE)


def test_narrowing_twice_is_narrowing_once(family: str) -> None:
    once, twice = tiny.make_model(family), tiny.make_model(family)
    narrow(once, FEW)
    narrow(twice, sorted({*FEW, 0, 7, 12, 30}))
    narrow(twice, [sorted({*FEW, 0, 7, 12, 30}).index(number) for number in FEW])
    assert all(torch.equal(tensor, twice.state_dict()[name]) for name, tensor in once.state_dict().items())
    assert model_shape(once) == model_shape(twice)


def test_layernorm_order_of_torch_pruning_is_wrong() -> None:
    """The bug that `narrow` works around; when a release fixes it, the special case can be removed."""
    import torch_pruning

    norm = torch.nn.LayerNorm(tiny.HIDDEN)
    with torch.no_grad():
        norm.weight.copy_(torch.arange(float(tiny.HIDDEN)))
    torch_pruning.prune_layernorm_out_channels(norm, sorted(set(range(tiny.HIDDEN)) - set(FEW)))
    assert norm.weight.tolist() != [float(number) for number in FEW]


def test_keeping_everything_changes_nothing(family: str) -> None:
    model = tiny.make_model(family)
    before = copy.deepcopy(model.state_dict())
    narrow(model, list(range(tiny.HIDDEN)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not hasattr(model.config, "compress")


@pytest.mark.parametrize("kept", [[], [3, 1, 2, 0], [1, 1, 2, 3], [-1, 0, 1, 2], [0, 1, 2, tiny.HIDDEN], [0, 1, 2, 3, 4]], ids=str)
def test_widths_that_cannot_be_are_refused(kept: list[int]) -> None:
    with pytest.raises(UsageError, match="dimensions|multiple"):
        narrow(tiny.make_model(), kept)


@pytest.mark.parametrize("embedding_size", [tiny.HIDDEN, 16, 4], ids=["not projected", "as wide as what is left", "narrow"])
def test_electra_of_any_embedding_size(embedding_size: int, tmp_path: Path) -> None:
    """Where the widths agree transformers builds no projection; the weights say that there is one."""
    model = tiny.make_model("electra", embedding_size=embedding_size)
    with torch.no_grad():
        expected = reference(model, HALF, batch_of("electra", model)).numpy()
    narrow(model, HALF)
    for result in everywhere(model, "electra", tmp_path):
        np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE)


def test_a_frozen_model_can_be_narrowed_and_a_narrowed_one_trained(family: str) -> None:
    model = tiny.make_model(family).requires_grad_(False)
    with torch.no_grad():
        narrow(model, HALF)
    model(**batch_of(family, model)).logits.square().sum().backward()
    gradients = [layer.attention_norm.weight.grad for layer in encoder_layers(model)]
    assert all(gradient is not None and gradient.shape == (len(HALF),) for gradient in gradients)


@pytest.mark.parametrize(("family", "target", "pruned"), pairwise(FAMILIES, ["class", "tags"], ["dense", "pruned"]))
def test_scores_are_the_gradients_of_one_gate_a_dimension(family: str, target: Any, pruned: str) -> None:
    """A gate on the hidden states wherever they are read, one for all places; taken of each example alone."""
    model = tiny.make_model(family, target=target)
    if SHAPES[pruned]:
        slice_model(model, SHAPES[pruned])
    model.double()
    data = tiny.encoded(family, 8, pairs=True)

    def loss_of(positions: Any) -> torch.Tensor:
        batch = to_tensors(data.batch(positions), model, CPU)
        return (logits_of(model(**batch)).square().flatten(1).sum(1) if target == "class" else masked(batch)).sum()

    def masked(batch: Any) -> torch.Tensor:
        return (logits_of(model(**batch)) * batch["attention_mask"].unsqueeze(-1)).square().sum((1, 2))

    trained = [parameter.requires_grad for parameter in model.parameters()]
    result = hidden_scores(model, [[0, 1, 2], [3, 4, 5, 6, 7]], loss_of)
    assert [parameter.requires_grad for parameter in model.parameters()] == trained

    gate = torch.ones(tiny.HIDDEN, dtype=torch.float64, requires_grad=True)
    encoder = find_submodule(model, family_of(family).encoder)
    places = [place for place in [getattr(encoder, "embeddings_project", None), *hidden_norms(model)] if place is not None]
    assert len(places) == 1 + 2 * tiny.LAYERS
    for place in places:
        place.register_forward_hook(lambda module, args, output: output * gate)
    expected = sum(torch.autograd.grad(loss_of([number]), gate)[0].square() for number in range(8))
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-9)


def test_top_positions_are_ascending_and_the_first_of_equals() -> None:
    assert top_positions(torch.tensor([1.0, 5.0, 3.0, 5.0, 0.0]), 3) == [1, 2, 3]
    assert top_positions(torch.ones(5), 2) == [0, 1]


def test_widths_by_hand() -> None:
    assert [fitting_width(384, 12, share) for share in (1, 0.75, 0.5, 0.01)] == [384, 288, 192, 48]
    assert fitting_width(312, 12, 1) == 312
    assert fitting_width(24, 4, 0.9) == 16
    assert fitting_width(12, 4, 0.5) == 12
    for share in (0, -1, 1.01):
        with pytest.raises(UsageError, match="share"):
            fitting_width(384, 12, share)


@given(st.integers(1, 16), st.integers(1, 80), st.floats(0.001, 1))
def test_widths_can_be_built(heads: int, size: int, share: float) -> None:
    hidden = heads * size
    width = fitting_width(hidden, heads, share)
    assert 0 < width <= hidden
    assert width % heads == 0
    assert width % 16 == 0 or width == hidden
