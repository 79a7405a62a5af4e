"""What enters and leaves modules of a model, with the loss's gradients by it, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def gradients_of(
    model: Any, modules: Sequence[nn.Module], batches: Iterable[Any], loss_of: Callable[[Any], torch.Tensor], outputs: bool = False
) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Run forward and backward; yield of each batch every module's input, with the loss's gradient by it.

    Where the loss does not depend on it, the gradient is zero.

    Args:
        model: a model with its head; its weights get no gradients.
        modules: each with one tensor in and one out.
        batches: whatever `loss_of` takes.
        loss_of: the loss of one batch.
        outputs: take the gradients by what leaves the modules instead.
    """
    entering: dict[int, torch.Tensor] = {}
    leaving: dict[int, torch.Tensor] = {}

    def capture(key: int) -> Callable[..., None]:
        def hook(module: Any, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            entering[key], leaving[key] = args[0], output

        return hook

    hooks = [module.register_forward_hook(capture(key)) for key, module in enumerate(modules)]
    try:
        with activations_only(model):
            for batch in batches:
                entering.clear()
                loss = loss_of(batch)
                wanted = leaving if outputs else entering
                keys = [key for key, value in wanted.items() if value.shape[-1] and value.requires_grad]
                found = torch.autograd.grad(loss, [wanted[key] for key in keys], allow_unused=True)
                gradients = {key: gradient for key, gradient in zip(keys, found, strict=True) if gradient is not None}
                yield [(entering[key].detach(), gradients.get(key, torch.zeros_like(wanted[key]))) for key in range(len(modules))]
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def requirements_kept(model: Any) -> Iterator[None]:
    """Put back, on leaving, which of a model's parameters need gradients."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, needed in before:
            parameter.requires_grad_(needed)


@contextmanager
def activations_only(model: Any) -> Iterator[None]:
    """Let gradients reach activations, and of the weights the word embeddings alone, for a while.

    These give autograd a path; every other weight's gradient would only cost time.
    """
    anchor = next(model.get_input_embeddings().parameters())
    with requirements_kept(model):
        for parameter in model.parameters():
            parameter.requires_grad_(parameter is anchor)
        yield


@contextmanager
def dropout_off(model: nn.Module) -> Iterator[None]:
    """Drop nothing within this context, also in training."""
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    before = [module.p for module in dropouts]
    for module in dropouts:
        module.p = 0.0
    try:
        yield
    finally:
        for module, probability in zip(dropouts, before, strict=True):
            module.p = probability
