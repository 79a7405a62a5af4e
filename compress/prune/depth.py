"""Which layers to drop: in the order of the loss without them.

The loss decides for each layer, not its depth: which layers a fine-tuned BERT can spare depends on the task (Sajjad et al. 2023,
arXiv 2004.03844).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from compress.editing.encoder_layers import CachedOutput, LayerOutput, replaced_layers
from compress.editing.gradients import BatchT
from compress.models.family import family_of
from compress.models.layers import layer_list
from compress.models.types import TransformersModel


def drop_order(
    model: TransformersModel,
    batches: Sequence[BatchT],
    loss_of: Callable[[BatchT], torch.Tensor],
    least: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> list[tuple[int, float]]:
    """Return the order in which to drop layers: greedily, each time the one without which the loss is least.

    A trial starts from the hidden states below the dropped layer, which the pass before it has stored, and runs only the layers
    above: about L^3 / 6 layer passes a batch for L layers, where whole passes would take L^3 / 3. The states of one batch are
    held at a time.

    Args:
        model: a model with its head, dense or pruned; it is not changed.
        batches: whatever `loss_of` takes; all are used for every drop.
        loss_of: the loss of `model` on one batch, summed over its examples. It must run the model once, and return the same loss
            for the same logits each time, so its labels must not be drawn anew.
        least: how many layers to keep, one of them the first layer in a family that needs it.
        advance: called after each drop.

    Returns:
        For each drop the layer's position in the given model, and the summed loss without it and those dropped before. Of equally
        good layers the first is dropped.
    """
    stack = layer_list(model)
    all_layers = list(stack)
    remaining = list(range(len(all_layers)))
    order: list[tuple[int, float]] = []
    first = 1 if family_of(model.config.model_type).keeps_first_layer else 0
    with torch.no_grad():
        while len(remaining) > least:
            losses = _losses_without(stack, [all_layers[number] for number in remaining], batches, loss_of)
            position = min(range(first, len(remaining)), key=losses.__getitem__)
            order.append((remaining.pop(position), losses[position]))
            advance()
    return order


def _losses_without(
    stack: nn.ModuleList, present: list[nn.Module], batches: Sequence[BatchT], loss_of: Callable[[BatchT], torch.Tensor]
) -> list[float]:
    """Return the summed loss without each of the present layers in turn."""
    losses = [0.0] * len(present)
    for batch in batches:
        outputs: list[LayerOutput] = []

        def keep(module: nn.Module, args: object, output: LayerOutput, outputs: list[LayerOutput] = outputs) -> None:
            outputs.append(output)

        hooks = [layer.register_forward_hook(keep) for layer in present[:-1]]
        try:
            with replaced_layers(stack, present):
                whole = loss_of(batch)  # for the layers' outputs only
        finally:
            for hook in hooks:
                hook.remove()
        del whole
        for position in range(len(present)):
            below = [CachedOutput(outputs[position - 1])] if position else []
            with replaced_layers(stack, [*below, *present[position + 1 :]]):
                losses[position] += float(loss_of(batch))
    return losses
