"""Remove layers of an encoder, or exchange them for a while."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from compress.core.errors import UsageError
from compress.models.family import family_of
from compress.models.layers import find_submodule, layer_list
from compress.models.model_shape import model_shape, record_shape
from compress.models.types import TransformersModel

LayerOutput = torch.Tensor | tuple[torch.Tensor, ...]  # hidden states; MPNet's layers return a tuple that begins with them


def keep_layers(model: TransformersModel, kept: Sequence[int]) -> None:
    """Remove all layers except the kept ones, in place; embeddings and head stay.

    The config's number of layers is updated, so plain transformers loads a dense model cut like this.

    Args:
        model: a model with its head, dense or pruned.
        kept: ascending positions, at least one.

    Raises:
        UsageError: the positions are not valid, or leave out a first layer that must stay.
    """
    layers = layer_list(model)
    if not kept or list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= len(layers):
        raise UsageError(f"the kept layers are not ascending positions from 0 to {len(layers) - 1}")
    family = family_of(model.config.model_type)
    if family.keeps_first_layer and kept[0] != 0:
        raise UsageError(f"the first layer of a {family.prefix} cannot be removed: it computes something else than the others")
    replace_layers(layers, [layers[number] for number in kept])
    for number, layer in enumerate(layers):
        parts: Iterator[Any] = layer.modules()
        for part in parts:
            if getattr(part, "layer_idx", None) is not None:
                part.layer_idx = number
    setattr(model.config, family.layers_key, len(kept))
    if kinds := getattr(model.config, "layer_types", None):
        model.config.layer_types = [kinds[number] for number in kept]
    for path in (family.encoder, f"{family.encoder}.{family.layers.rpartition('.')[0]}"):
        holder = find_submodule(model, path)
        if hasattr(holder, family.layers_key):
            setattr(holder, family.layers_key, len(kept))  # DistilBERT has the number twice
    record_shape(model, model_shape(model))


def with_first_layer(model: TransformersModel, kept: Sequence[int]) -> list[int]:
    """Return positions of layers with the first one instead of the lowest, in a family whose first layer must stay."""
    return [0, *kept[1:]] if family_of(model.config.model_type).keeps_first_layer else list(kept)


def replace_layers(layers: nn.ModuleList, replacement: Sequence[nn.Module]) -> None:
    """Replace the contents of a model's list of layers, in place."""
    del layers[:]
    layers.extend(replacement)


class CachedOutput(nn.Module):
    """Replaces the layers up to one, whose output is cached."""

    attention_type = "full_attention"  # ModernBERT's encoder asks every layer for it

    def __init__(self, output: LayerOutput | None) -> None:
        super().__init__()
        self.output = output

    def forward(self, *args: object, **options: object) -> LayerOutput | None:
        """Return the cached output, whatever the input."""
        return self.output


def hidden_states(output: LayerOutput) -> torch.Tensor:
    """Return the hidden states in a layer's output, (batch, length, hidden)."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def replaced_layers(layers: nn.ModuleList, replacement: Sequence[nn.Module]) -> Iterator[None]:
    """Run the encoder with other layers within this context."""
    before = list(layers)
    try:
        replace_layers(layers, replacement)
        yield
    finally:
        replace_layers(layers, before)
