"""Scores of torch-pruning's own importance criteria, as baselines: the library as its users call it, on the same units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn

from compress.editing.dependency_graph import dependency_graph, group_within
from compress.editing.gradients import preserved_requires_grad
from compress.models.layers import Layer, encoder_layers
from compress.models.model_shape import model_shape
from compress.prune.scores import LayerScores

Kind = Literal["magnitude", "taylor", "random"]


def torch_pruning_scores(
    model: Any,
    kind: Kind,
    batches: Iterable[Any] | None = None,
    loss_of: Callable[[Any], torch.Tensor] | None = None,
    seed: int = 0,
) -> list[LayerScores]:
    """Score units by torch-pruning's importance classes, with its defaults except for the normaliser.

    A neuron's group is its row of the FFN input and its column of the FFN output. A head's dimension's group is its rows
    of query, key and value and its column of the attention output. What torch-pruning 1.6.1 computes of a dimension is
    the **mean over the members of its group** (two for a neuron, four for a head's dimension), biases left out, of:

    - `magnitude`, `GroupMagnitudeImportance(p=2)`: the row's or column's sum of squared weights (p-th powers, no root);
    - `taylor`, `GroupTaylorImportance`: its sum of `|w . dL/dw|`, weight by weight (not squared), the gradients added up
      over all batches before the product is taken;
    - `random`, `RandomImportance`: one uniform number in [0, 1) for the whole dimension.

    A head's score is the **sum** over its dimensions, so that scores add up over units; torch-pruning ranks heads among
    themselves by the mean, which is the same order. `normalizer=None`, because the default divides each group by its own
    mean and erases what tells layers apart.

    Args:
        model: a model with its head, dense or pruned, in evaluation mode; weights and gradients are left as they were.
        kind: the criterion.
        batches: of `taylor`: whatever `loss_of` takes.
        loss_of: of `taylor`: the loss of one batch, the **mean** over its examples, as in training.
        seed: of `random`.

    Returns:
        One `LayerScores` a layer, empty for a sublayer without units.
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


def _score(model: Any, criterion: Any) -> list[LayerScores]:
    graph, size = dependency_graph(model), model_shape(model).head_size

    def of(linear: nn.Linear | None, layer: Layer) -> torch.Tensor:
        if linear is None or not linear.out_features:
            return torch.zeros(0, dtype=torch.float64)
        return criterion(group_within(graph, linear, layer.module)).double().cpu()

    return [LayerScores(of(layer.query, layer).reshape(-1, size).sum(1), of(layer.ffn_in, layer)) for layer in encoder_layers(model)]


@contextmanager
def _gradients(model: Any, batches: Iterable[Any], loss_of: Callable[[Any], torch.Tensor]) -> Iterator[None]:
    """Leave the gradients of the batches' losses in the weights of the groups, for a while."""
    wanted = [
        linear.weight
        for layer in encoder_layers(model)
        for linear in (layer.query, layer.key, layer.value, layer.attention_output, layer.ffn_in, layer.ffn_out)
        if linear is not None and linear.weight.numel()
    ]
    chosen = {id(weight) for weight in wanted}
    before = [(parameter, parameter.grad) for parameter in model.parameters()]
    try:
        with preserved_requires_grad(model):
            for parameter in model.parameters():
                parameter.grad = None
                parameter.requires_grad_(id(parameter) in chosen)
            for batch in batches:
                loss_of(batch).backward()
            for weight in wanted:
                if weight.grad is None:  # torch-pruning fails on a weight that the loss does not reach
                    weight.grad = torch.zeros_like(weight)
            yield
    finally:
        for parameter, gradient in before:
            parameter.grad = gradient
