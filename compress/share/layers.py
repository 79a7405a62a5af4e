"""Give groups of layers the same weights, and measure what that changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch

from compress.models.device import Batch
from compress.models.family import family_of
from compress.models.layers import encoder_layers, find_submodule
from compress.models.model_shape import model_shape
from compress.models.relative_positions import bias_columns
from compress.models.sharing import Owners, share_parameters
from compress.models.task_loss import logits_of
from compress.models.types import TransformersModel

WeightSource = Literal["mean", "first", "last"]  # of a group's weights


def can_share(model: TransformersModel, owners: Sequence[int]) -> bool:
    """Tell whether the layers of each group have the same shape and weights, and use the same columns of a shared position bias.

    Args:
        model: dense or pruned.
        owners: for each layer the first one of its group.
    """
    attention = family_of(model.config.model_type).attention
    columns = [bias_columns(model, find_submodule(layer.module, attention)) for layer in encoder_layers(model)]
    names = [[name for name, _ in layer.module.named_parameters()] for layer in encoder_layers(model)]
    kinds = [
        (replace(shape, tokens=1.0), parameters, None if used is None else tuple(used.tolist()))
        for shape, parameters, used in zip(model_shape(model).layers, names, columns, strict=True)
    ]
    return all(kinds[owner] == kinds[number] for number, owner in enumerate(owners))


@torch.no_grad()
def share_layers(model: TransformersModel, owners: Sequence[int], how: WeightSource) -> None:
    """Let the layers of each group use the same weights, in place.

    Args:
        model: dense or pruned.
        owners: for each layer the first one of its group.
        how: `mean`: the mean of the group's weights; `first`, `last`: those of its first or last layer.
    """
    parameters = [dict(layer.module.named_parameters()) for layer in encoder_layers(model)]
    for first in set(owners):
        group = [parameters[number] for number, owner in enumerate(owners) if owner == first]
        for name, parameter in parameters[first].items():
            if how == "mean":
                parameter.copy_(torch.stack([layer[name] for layer in group]).mean(0))
            elif how == "last":
                parameter.copy_(group[-1][name])
    share_parameters(model, owners)


def logits_change(model: TransformersModel, batches: Sequence[Batch], how: WeightSource) -> Callable[[Owners], float]:
    """Return a function from groups to the sum of squared differences of the logits, of texts or of real tokens.

    Args:
        model: the dense model in evaluation mode; it is not changed.
        batches: calibration inputs on its device.
        how: see `share_layers`.
    """
    with torch.no_grad():
        dense_logits = [logits_of(model(**batch)) for batch in batches]

    @torch.no_grad()
    def change(owners: Owners) -> float:
        shared = copy.deepcopy(model)
        share_layers(shared, owners, how)
        total = 0.0
        for batch, logits in zip(batches, dense_logits, strict=True):
            squares = (logits_of(shared(**batch)) - logits).float().square().sum(-1)  # (batch,) or (batch, length)
            total += float((squares if squares.ndim == 1 else squares * batch["attention_mask"]).sum())
        return total

    return change
