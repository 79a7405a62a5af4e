"""Drop whole layers: which to drop, by the loss without them.

Chosen layer by layer, not by depth alone: which layers a fine-tuned BERT can spare depends on the task (Sajjad et al. 2023,
arXiv 2004.03844).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from compress.editing.encoder_layers import CachedOutput, replaced_layers
from compress.models.layers import layer_list


def drop_order(
    model: Any, batches: Sequence[Any], loss_of: Callable[[Any], torch.Tensor], least: int = 1, advance: Callable[[], None] = lambda: None
) -> list[tuple[int, float]]:
    """Return layers in the order in which to drop them: greedily, each time the one without which the loss is least.

    A trial takes the hidden states below the dropped layer from the pass before it, and runs only the layers above:
    about L^3 / 6 layers a batch for L of them, where whole passes would run L^3 / 3. One batch's states are held at a time.

    Args:
        model: a model with its head, dense or pruned; it is left as it was.
        batches: whatever `loss_of` takes; they are gone through once for every drop.
        loss_of: the loss of `model` on one batch, summed over its examples. It must run the model once, and give the
            same loss for the same logits each time: labels that are drawn, are drawn before.
        least: how many layers stay at the end.
        advance: called after each drop.

    Returns:
        For each drop the layer's position in the model as given, and the summed loss without it and those before it.
        The first of equally good layers is dropped.
    """
    stack = layer_list(model)
    everything = list(stack)
    left = list(range(len(everything)))
    order: list[tuple[int, float]] = []
    with torch.no_grad():
        while len(left) > least:
            losses = _losses_without(stack, [everything[number] for number in left], batches, loss_of)
            position = min(range(len(left)), key=losses.__getitem__)
            order.append((left.pop(position), losses[position]))
            advance()
    return order


def _losses_without(
    stack: nn.ModuleList, present: list[nn.Module], batches: Sequence[Any], loss_of: Callable[[Any], torch.Tensor]
) -> list[float]:
    """Return the summed loss without each of the present layers in turn."""
    losses = [0.0] * len(present)
    for batch in batches:
        outputs: list[Any] = []

        def keep(module: nn.Module, args: Any, output: Any, outputs: list[Any] = outputs) -> None:
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
