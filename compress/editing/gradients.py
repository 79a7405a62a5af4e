"""Gradients of a loss by the activations of modules, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from compress.models.types import TransformersModel

BatchT = TypeVar("BatchT")  # whatever a loss takes


def activation_gradients(
    model: TransformersModel,
    modules: Sequence[nn.Module],
    batches: Iterable[BatchT],
    loss_of: Callable[[BatchT], torch.Tensor],
    outputs: bool = False,
) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Run forward and backward; yield for each batch every module's input and the loss's gradient by it.

    The gradient is zero if the loss does not depend on the input.

    Args:
        model: a model with its head; its weights get no gradients.
        modules: each with one tensor as input and one as output.
        batches: the arguments of `loss_of`.
        loss_of: returns the loss of one batch.
        outputs: take the gradients by the modules' outputs instead of their inputs.
    """
    entering: dict[int, torch.Tensor] = {}
    leaving: dict[int, torch.Tensor] = {}

    def capture(key: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if key not in entering:  # DeBERTa's projections run again, on the embeddings of positions
                entering[key], leaving[key] = args[0], output

        return hook

    hooks = [module.register_forward_hook(capture(key)) for key, module in enumerate(modules)]
    try:
        with activation_gradients_only(model):
            for batch in batches:
                entering.clear()
                loss = loss_of(batch)
                variables = leaving if outputs else entering
                keys = [key for key, value in variables.items() if value.shape[-1] and value.requires_grad]
                results = torch.autograd.grad(loss, [variables[key] for key in keys], allow_unused=True)
                gradients = {key: gradient for key, gradient in zip(keys, results, strict=True) if gradient is not None}
                yield [(entering[key].detach(), gradients.get(key, torch.zeros_like(variables[key]))) for key in range(len(modules))]
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def preserved_requires_grad(model: nn.Module) -> Iterator[None]:
    """Restore `requires_grad` of every parameter on leaving this context."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


@contextmanager
def activation_gradients_only(model: TransformersModel) -> Iterator[None]:
    """Within this context gradients reach activations, but no weights except the word embeddings.

    The embeddings give autograd a path to every activation; gradients of the other weights would only cost time.
    """
    anchor = next(model.get_input_embeddings().parameters())
    with preserved_requires_grad(model):
        for parameter in model.parameters():
            parameter.requires_grad_(parameter is anchor)
        yield


@contextmanager
def dropout_disabled(model: nn.Module) -> Iterator[None]:
    """Set every dropout probability to 0 within this context, also in training mode."""
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    before = [module.p for module in dropouts]
    for module in dropouts:
        module.p = 0.0
    try:
        yield
    finally:
        for module, probability in zip(dropouts, before, strict=True):
            module.p = probability
