"""Features of a model: hidden states, and the outputs of the query, key and value projections of its layers."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import torch
from torch import nn

from compress.models.device import Batch
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.models.token_reduction import kept_tokens_by_layer
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    from transformers.utils.generic import ModelOutput

Feature = tuple[str, int]  # ("hidden", n): after layer n, 0 the embeddings; ("query" | "key" | "value", n): in layer n
PROJECTIONS = ("query", "key", "value")


def forward_with_features(
    model: TransformersModel, batch: Batch, features: Collection[Feature]
) -> tuple[ModelOutput, dict[Feature, torch.Tensor]]:
    """Run a model and return its outputs and the given features, each (batch, tokens, width).

    Hooks read the projections, so attention itself may run in any kernel.

    Args:
        model: a model with its head.
        batch: its inputs.
        features: of layers that exist; projections only of layers with heads.
    """
    projected: dict[Feature, torch.Tensor] = {}

    def store_as(feature: Feature) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(module: nn.Module, args: object, output: torch.Tensor) -> None:
            projected.setdefault(feature, output)  # DeBERTa's projections run again, on the embeddings of positions

        return hook

    hooks = []
    try:
        for number, layer in enumerate(encoder_layers(model), 1):
            for part in PROJECTIONS:
                if (part, number) in features:
                    hooks.append(getattr(layer, part).register_forward_hook(store_as((part, number))))
        options = {"output_hidden_states": True} if any(kind == "hidden" for kind, _ in features) else {}
        outputs = model(**batch, **options)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, {feature: outputs.hidden_states[feature[1]] if feature[0] == "hidden" else projected[feature] for feature in features}


def computed_tokens(model: TransformersModel, features: Collection[Feature]) -> dict[Feature, torch.Tensor]:
    """Return the tokens for which the last forward pass computed each feature, (batch, tokens) bool; empty if it dropped none.

    Args:
        model: that ran last.
        features: of its layers.
    """
    kept = kept_tokens_by_layer(model)
    return {} if kept is None else {(kind, number): kept[number if kind == "hidden" else number - 1] for kind, number in features}


def feature_width(model: TransformersModel, feature: Feature) -> int:
    """Return the width of a feature."""
    kind, number = feature
    shape = model_shape(model)
    return shape.hidden if kind == "hidden" else shape.layers[number - 1].heads * shape.head_size
