"""torch-pruning's scores against its definitions, written out on the weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from compress.models.device import to_tensors
from compress.models.layers import Layer, encoder_layers
from compress.models.model_shape import model_shape
from compress.models.task_loss import logits_of
from compress.prune.baselines import torch_pruning_scores
from compress.prune.scores import LayerScores
from compress.prune.search import Kept
from compress.prune.surgery import columns, slice_model
from tests import tiny
from tests.conftest import FAMILIES
from tests.pairwise import pairwise

CPU = torch.device("cpu")
PRUNED = [Kept([0, 3], [1, 5, 63]), Kept([], [2]), Kept([1], [])]
BATCHES = [[0, 1, 2, 3], [4, 5, 6, 7]]
TARGETS = ["class", "tags", "span"]


def model_of(family: str, pruned: bool = False, target: Any = "class") -> Any:
    """Return a tiny model, dense or pruned."""
    model = tiny.make_model(family, target=target)
    if pruned:
        slice_model(model, PRUNED)
    return model


def loss_of(model: Any, family: str, positions: list[int]) -> torch.Tensor:
    """Return the mean cross-entropy of a batch."""
    data = tiny.encoded(family, 12)
    logits = logits_of(model(**to_tensors(data.batch(positions), model, CPU)))
    return functional.cross_entropy(logits, torch.from_numpy(data.labels)[positions])


def taylor(model: Any, family: str) -> list[LayerScores]:
    """Score by torch-pruning's Taylor criterion."""
    return torch_pruning_scores(model, "taylor", BATCHES, lambda positions: loss_of(model, family, positions))


def by_definition(layer: Layer, values: dict[int, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scores of heads and neurons: the mean over a group's members of their sums of `values`, one per weight."""
    neurons = (values[id(layer.ffn_in)].sum(1) + values[id(layer.ffn_out)].sum(0)) / 2
    if layer.query is None or layer.key is None or layer.value is None:
        return torch.zeros(0), neurons
    rows = sum(values[id(part)].sum(1) for part in (layer.query, layer.key, layer.value))
    dimensions = (rows + values[id(layer.attention_output)].sum(0)) / 4
    return dimensions.reshape(-1, tiny.HEAD_SIZE).sum(1), neurons


def linears(model: Any) -> list[Any]:
    """Return every linear of every layer."""
    parts = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")
    return [getattr(layer, part) for layer in encoder_layers(model) for part in parts if getattr(layer, part) is not None]


def assert_by_definition(model: Any, found: list[LayerScores], values: dict[int, torch.Tensor]) -> None:
    """Compare with the definition; every score is float64 and there is one for every unit."""
    shape = model_shape(model)
    for layer, scores, size in zip(encoder_layers(model), found, shape.layers, strict=True):
        heads, neurons = by_definition(layer, values)
        assert (len(scores.heads), len(scores.neurons)) == (size.heads, size.ffn)
        assert scores.heads.dtype == scores.neurons.dtype == torch.float64
        torch.testing.assert_close(scores.heads, heads.double(), rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(scores.neurons, neurons.double(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("family", "target", "pruned"), pairwise(FAMILIES, TARGETS, [False, True]))
def test_magnitude_is_the_mean_of_squared_norms_over_the_group(family: str, target: Any, pruned: bool) -> None:
    model = model_of(family, pruned, target)
    found = torch_pruning_scores(model, "magnitude")
    assert_by_definition(model, found, {id(linear): linear.weight.detach().square() for linear in linears(model)})


def test_magnitude_by_hand() -> None:
    model = tiny.make_model()
    with torch.no_grad():
        for linear in linears(model):
            linear.weight.zero_()
        for layer in encoder_layers(model):
            layer.query.weight[columns([1], tiny.HEAD_SIZE)[0], 5] = 2  # type: ignore[union-attr]
            layer.attention_output.weight[3, columns([1], tiny.HEAD_SIZE)[7]] = -6
            layer.value.weight[columns([2], tiny.HEAD_SIZE)[3], :2] = 4  # type: ignore[union-attr]
            layer.ffn_in.weight[9, 0] = 3
            layer.ffn_out.weight[1, 9] = 5
    for layer in torch_pruning_scores(model, "magnitude"):
        assert layer.heads.tolist() == [0, (4 + 36) / 4, (16 + 16) / 4, 0]
        assert layer.neurons.tolist() == [(9 + 25) / 2 if unit == 9 else 0 for unit in range(tiny.FFN)]


@pytest.mark.parametrize("pruned", [False, True])
def test_taylor_is_the_mean_of_weight_times_gradient_over_the_group(family: str, pruned: bool) -> None:
    """Gradients add up over batches before the product: not the sum of each batch's products."""
    model = model_of(family, pruned)
    twin = copy.deepcopy(model)
    found = taylor(model, family)
    sum(loss_of(twin, family, positions) for positions in BATCHES).backward()  # type: ignore[union-attr]
    values = {}
    for own, other in zip(linears(model), linears(twin), strict=True):
        gradient = other.weight.grad if other.weight.grad is not None else torch.zeros_like(other.weight)
        values[id(own)] = (other.weight * gradient).abs().detach()
    assert_by_definition(model, found, values)
    assert sum(float(layer.neurons.sum()) for layer in found) > 0


def test_taylor_of_a_layer_that_the_loss_does_not_see_is_zero() -> None:
    """Without weights downstream nothing reaches layer 0 and 1: their gradients are missing or zero, and that is no error."""
    model = tiny.make_model()
    with torch.no_grad():
        last = list(encoder_layers(model))[2]
        last.output_norm.weight.zero_()
    found = taylor(model, "bert")
    assert all(not scores.heads.any() and not scores.neurons.any() for scores in found)


@pytest.mark.parametrize("kind", ["magnitude", "taylor", "random"])
def test_weights_gradients_and_what_is_trained_are_left_as_they_were(family: str, kind: Any) -> None:
    model = tiny.make_model(family)
    model.get_input_embeddings().weight.requires_grad_(False)
    loss_of(model, family, [0, 1]).backward()
    before = {name: (p.detach().clone(), p.requires_grad, p.grad) for name, p in model.named_parameters()}
    torch_pruning_scores(model, kind, BATCHES, lambda positions: loss_of(model, family, positions))
    for name, parameter in model.named_parameters():
        weight, trained, gradient = before[name]
        assert torch.equal(parameter, weight)
        assert parameter.requires_grad == trained
        assert parameter.grad is gradient


def test_random_scores_follow_the_seed_and_leave_the_global_one(family: str) -> None:
    model = model_of(family, pruned=True)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, third = (torch_pruning_scores(model, "random", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    for left, right, other in zip(first, second, third, strict=True):
        assert torch.equal(left.heads, right.heads)
        assert torch.equal(left.neurons, right.neurons)
        assert not len(left.neurons) or not torch.equal(left.neurons, other.neurons)
        assert ((left.neurons >= 0) & (left.neurons < 1)).all()
        assert ((left.heads >= 0) & (left.heads < tiny.HEAD_SIZE)).all()


def test_taylor_without_data_is_refused() -> None:
    with pytest.raises(ValueError, match="needs batches"):
        torch_pruning_scores(tiny.make_model(), "taylor")
