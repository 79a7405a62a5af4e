"""How much each attention head and each FFN neuron matters.

A unit is a group of inputs of an output projection: `head_size` columns of the attention output for a head, one
column of the FFN output for a neuron. Scores are comparable across layers and between heads and neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from compress.model.checkpoint import model_shape
from compress.model.family import layers


@dataclass(frozen=True)
class LayerScores:
    """The scores of a layer's units, higher matters more: `heads` (heads,), `neurons` (ffn,), both float64."""

    heads: torch.Tensor
    neurons: torch.Tensor


def magnitude(model: Any) -> list[LayerScores]:
    """Score a unit by the squared L2 norm of all of its weights (Li et al. 2017, over the whole coupled group).

    A head's group is its rows of query, key and value and its columns of the output; a neuron's is its row in and its
    column out. Squared norms add up over units, so a score per parameter compares heads with neurons.
    """
    size = model_shape(model).head_size
    scores = []
    for layer in layers(model):
        rows = [linear.weight for linear in (layer.query, layer.key, layer.value) if linear is not None]
        squares = sum((weight.detach().double().square().sum(1) for weight in rows), _column_squares(layer.attention_output))
        neurons = layer.ffn_in.weight.detach().double().square().sum(1) + _column_squares(layer.ffn_out)
        scores.append(LayerScores(squares.reshape(-1, size).sum(1), neurons))
    return scores


def _column_squares(linear: Any) -> torch.Tensor:
    return linear.weight.detach().double().square().sum(0)


def taylor(model: Any, batches: Iterable[Any], loss_of: Callable[[Any], torch.Tensor]) -> list[LayerScores]:
    """Score a unit by the squared change of the loss that a first-order Taylor expansion expects from removing it.

    With `a` the unit's activations, the input of the output projection, the score is the sum over examples of
    `(sum_tokens a . dL/da)^2` (Molchanov et al. 2019, eq. 8, taken per example, so that effects of opposite sign on
    different examples do not cancel). The squares of units whose effects are independent add up, so scores per FLOP
    compare heads with blocks of neurons.

    Args:
        model: a classifier in evaluation mode; its weights get no gradients.
        batches: whatever `loss_of` takes.
        loss_of: the loss of one batch, **summed** over its examples, so that each example's gradient is its own.

    Returns:
        One `LayerScores` a layer.
    """
    size = model_shape(model).head_size
    found = list(layers(model))
    sums = [
        (
            torch.zeros(layer.attention_output.in_features // size, dtype=torch.float64),
            torch.zeros(layer.ffn_out.in_features, dtype=torch.float64),
        )
        for layer in found
    ]
    captured: dict[tuple[int, int], torch.Tensor] = {}

    def capture(key: tuple[int, int]) -> Callable[..., None]:
        def hook(module: Any, args: tuple[torch.Tensor, ...]) -> None:
            captured[key] = args[0]

        return hook

    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    hooks = []
    for number, layer in enumerate(found):
        for part, linear in enumerate((layer.attention_output, layer.ffn_out)):
            hooks.append(linear.register_forward_pre_hook(capture((number, part))))
    # The embeddings keep their gradient so that autograd has a path; every other weight would only cost time.
    anchor = model.get_input_embeddings().weight
    try:
        for parameter in trainable:
            parameter.requires_grad_(parameter is anchor)
        for batch in batches:
            captured.clear()
            loss = loss_of(batch)
            keys = [key for key, value in captured.items() if value.shape[-1] and value.requires_grad]
            gradients = torch.autograd.grad(loss, [captured[key] for key in keys])
            for (number, part), gradient in zip(keys, gradients, strict=True):
                product = (captured[number, part].detach() * gradient).double().sum(1)  # (batch, tokens, units) -> (batch, units)
                if part == 0:
                    product = product.reshape(len(product), -1, size).sum(2)
                sums[number][part].add_(product.square().sum(0).cpu())
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in trainable:
            parameter.requires_grad_(True)
    return [LayerScores(heads, neurons) for heads, neurons in sums]
