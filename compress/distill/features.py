"""What is looked at inside a model: hidden states, and the outputs of query, key and value projections of its layers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from compress.models.device import Batch
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape

Feature = tuple[str, int]  # ("hidden", n): behind layer n, 0 behind the embeddings; ("query" | "key" | "value", n): in layer n
PROJECTED = ("query", "key", "value")


def observe(model: Any, batch: Batch, wanted: Collection[Feature]) -> tuple[Any, dict[Feature, torch.Tensor]]:
    """Run a model and return its outputs with the wanted features, each (batch, tokens, width).

    Projections are read by hooks, so attention itself may run in any kernel.

    Args:
        model: a model with its head.
        batch: its inputs.
        wanted: features; a layer whose projections are wanted must have heads.
    """
    found: dict[Feature, torch.Tensor] = {}

    def keep(feature: Feature) -> Any:
        def hook(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            found[feature] = output

        return hook

    hooks = []
    try:
        for number, layer in enumerate(encoder_layers(model), 1):
            for part in PROJECTED:
                if (part, number) in wanted:
                    hooks.append(getattr(layer, part).register_forward_hook(keep((part, number))))
        options = {"output_hidden_states": True} if any(kind == "hidden" for kind, _ in wanted) else {}
        outputs = model(**batch, **options)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, {feature: outputs.hidden_states[feature[1]] if feature[0] == "hidden" else found[feature] for feature in wanted}


def width_of(model: Any, feature: Feature) -> int:
    """Return how wide a feature of a model is."""
    kind, number = feature
    shape = model_shape(model)
    return shape.hidden if kind == "hidden" else shape.layers[number - 1].heads * shape.head_size
