"""Models as they are in memory: modules of transformers, arranged so that every role has a linear, every head its rows, every use a layer.

What reads, cuts or exports layers then needs to know neither joined linears (compress.models.joined_linear and interleaved), nor keys and
values that heads share (compress.models.grouped_heads), nor layers that are used several times (compress.models.layer_groups). The forward
functions stay those of transformers.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from compress.models.family import FAMILIES, Family
from compress.models.grouped_heads import repeat_groups
from compress.models.interleaved import split_interleaved
from compress.models.joined_linear import ModelT, split_joined
from compress.models.layer_groups import grouping_of_config, stored_places
from compress.models.layers import find_submodule
from compress.models.types import TransformersModel
from compress.models.windows import use_blocks


def build_model(model_class: Any, config: Any, **options: object) -> TransformersModel:
    """Return a new model with random weights."""
    return arrange(model_class(config, **options))


def arrange(model: ModelT) -> ModelT:
    """Arrange the modules of a model of transformers, in place, and return it; of most families they stay as they are."""
    config: Any = model.config
    family = FAMILIES.get(config.model_type)
    if family and family.grouped:
        _unroll(getattr(model, family.encoder, model), config, family)
    split_interleaved(model)
    repeat_groups(model)
    use_blocks(config)
    return split_joined(model)


def _unroll(encoder: object, config: Any, family: Family) -> None:
    """Put every use of a layer into one group, in the order in which they run; uses share their parameters."""
    path, _, inner = family.layers.partition(".0.")
    groups = find_submodule(encoder, path)
    uses = [getattr(groups[group], inner)[position] for group, position in stored_places(grouping_of_config(config.to_dict()))]
    seen: set[int] = set()
    layers: list[nn.Module] = []
    for layer in uses:
        layers.append(_another_use(layer, config) if id(layer) in seen else layer)
        seen.add(id(layer))
    del groups[1:]
    setattr(groups[0], inner, nn.ModuleList(layers))
    config.num_hidden_layers, config.num_hidden_groups, config.inner_group_num = 1, 1, len(layers)


def _another_use(layer: nn.Module, config: object) -> nn.Module:
    """Return a copy of a layer with the same parameters and the same config."""
    same = {id(config): config, **{id(parameter): parameter for parameter in layer.parameters()}}
    return copy.deepcopy(layer, same)
