"""The list of an encoder's layers, and models with some of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from compress.core.errors import UsageError
from compress.models.checkpoint import model_shape, record_shape
from compress.models.family import descend, family_of


def keep_layers(model: Any, kept: Sequence[int]) -> None:
    """Remove every layer that is not kept, in place; embeddings and head stay whole.

    The config's number of layers follows, so plain transformers loads a dense model cut like this.

    Args:
        model: a model with its head, dense or pruned.
        kept: ascending positions, at least one.

    Raises:
        UsageError: no such layers.
    """
    stack = stack_of(model)
    if not kept or list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= len(stack):
        raise UsageError(f"the kept layers are not ascending positions from 0 to {len(stack) - 1}")
    family = family_of(model.config.model_type)
    fill(stack, [stack[number] for number in kept])
    for number, layer in enumerate(stack):
        parts: Iterator[Any] = layer.modules()
        for part in parts:
            if getattr(part, "layer_idx", None) is not None:
                part.layer_idx = number
    setattr(model.config, family.layers_key, len(kept))
    for holder in (descend(model, family.encoder), descend(model, f"{family.encoder}.{family.layers.rpartition('.')[0]}")):
        if hasattr(holder, family.layers_key):
            setattr(holder, family.layers_key, len(kept))  # DistilBERT counts them a second time
    record_shape(model, model_shape(model))


def fill(stack: nn.ModuleList, wanted: list[nn.Module]) -> None:
    """Put other layers in the place of a stack's own."""
    del stack[:]
    stack.extend(wanted)


def stack_of(model: Any) -> nn.ModuleList:
    """Return the list of a model's layers, to be changed in place."""
    family = family_of(model.config.model_type)
    return descend(model, f"{family.encoder}.{family.layers}")


class Replay(nn.Module):
    """Stands in for the layers up to one: returns what that one returned, a tensor or (MPNet) a tuple."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return it, whatever is given."""
        return self.output


@contextmanager
def running(stack: nn.ModuleList, wanted: list[nn.Module]) -> Iterator[None]:
    """Run the encoder with other layers for a while."""
    before = list(stack)
    try:
        fill(stack, wanted)
        yield
    finally:
        fill(stack, before)
