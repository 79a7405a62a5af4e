"""Baselines: scores of torch-pruning's own importance criteria, called as its users call them, on the same units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from compress.editing.dependency_graph import dependency_graph, group_of_units, group_within
from compress.editing.gradients import BatchT, preserved_requires_grad
from compress.models.family import family_of
from compress.models.layers import Layer, encoder_layers
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel
from compress.prune.scores import LayerScores

if TYPE_CHECKING:
    from torch_pruning.pruner.importance import Importance

Criterion = Literal["magnitude", "taylor", "random"]


def torch_pruning_scores(
    model: TransformersModel,
    kind: Criterion,
    batches: Iterable[BatchT] | None = None,
    loss_of: Callable[[BatchT], torch.Tensor] | None = None,
    seed: int = 0,
) -> list[LayerScores]:
    """Score units by torch-pruning's importance classes, with its defaults except for the normaliser.

    The group of a neuron is its row of the FFN input (and of the gate) and its column of the FFN output. The group of a head's
    dimension is its rows of query, key and value and its column of the attention output. For a dimension, torch-pruning 1.6.1
    computes the **mean over the members of its group** (two for a neuron, three with a gate, four for a head's dimension), without
    biases, of:

    - `magnitude`, `GroupMagnitudeImportance(p=2)`: the sum of squared weights of the row or column (p-th powers, no root);
    - `taylor`, `GroupTaylorImportance`: its sum of `|w . dL/dw|`, weight by weight (not squared); the gradients are summed over
      all batches before the product is taken;
    - `random`, `RandomImportance`: one uniform number in [0, 1) for the whole dimension.

    A head's score is the **sum** over its dimensions, so that scores add up over units; torch-pruning ranks heads by the mean,
    which is the same order. `normalizer=None`, because the default divides each group by its own mean, which makes layers
    incomparable.

    Args:
        model: a model with its head, dense or pruned, in evaluation mode; its weights and gradients do not change.
        kind: the criterion.
        batches: for `taylor`: whatever `loss_of` takes.
        loss_of: for `taylor`: the loss of one batch, the **mean** over its examples, as in training.
        seed: for `random`.

    Returns:
        One `LayerScores` a layer, empty for a sublayer without units.

    Raises:
        ValueError: `taylor` without batches or without a loss.
    """
    from torch_pruning import importance

    if kind == "taylor":
        if batches is None or loss_of is None:
            raise ValueError("taylor needs batches and a loss")
        with _gradients(model, batches, loss_of):
            return _score(model, importance.GroupTaylorImportance(normalizer=None))  # pyright: ignore[reportArgumentType]
    if kind == "magnitude":
        return _score(model, importance.GroupMagnitudeImportance(p=2, normalizer=None))  # pyright: ignore[reportArgumentType]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _score(model, importance.RandomImportance())


def _score(model: TransformersModel, criterion: Importance) -> list[LayerScores]:
    size = model_shape(model).head_size
    family = family_of(model.config.model_type)
    graph = None if family.rotary or family.disentangled else dependency_graph(model)

    def scores(inputs: Sequence[nn.Linear | None], output: nn.Linear, layer: Layer) -> torch.Tensor:
        linears = [linear for linear in inputs if linear is not None]
        if not linears or not output.in_features:
            return torch.zeros(0, dtype=torch.float64)
        group = group_of_units(linears, output) if graph is None else group_within(graph, linears[0], layer.module)
        return criterion(group).double().cpu()

    return [
        LayerScores(
            scores((layer.query, layer.key, layer.value), layer.attention_output, layer).reshape(-1, size).sum(1),
            scores((layer.ffn_in, layer.ffn_gate), layer.ffn_out, layer),
        )
        for layer in encoder_layers(model)
    ]


@contextmanager
def _gradients(model: TransformersModel, batches: Iterable[BatchT], loss_of: Callable[[BatchT], torch.Tensor]) -> Iterator[None]:
    """Keep the gradients of the batches' losses in the weights of the groups within this context."""
    weights = [
        linear.weight
        for layer in encoder_layers(model)
        for linear in (layer.query, layer.key, layer.value, layer.attention_output, layer.ffn_in, layer.ffn_gate, layer.ffn_out)
        if linear is not None and linear.weight.numel()
    ]
    chosen = {id(weight) for weight in weights}
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with preserved_requires_grad(model):
            for parameter in model.parameters():
                parameter.grad = None
                parameter.requires_grad_(id(parameter) in chosen)
            for batch in batches:
                loss_of(batch).backward()
            for weight in weights:
                if weight.grad is None:  # torch-pruning fails on a weight that the loss does not reach
                    weight.grad = torch.zeros_like(weight)
            yield
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient
