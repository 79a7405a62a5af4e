"""The shape of a model in memory: read from its weights, recorded in its config."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from compress.models.adapters import adapter_size
from compress.models.biases import has_added_biases
from compress.models.family import family_of
from compress.models.layer_groups import grouping_of_owners
from compress.models.layers import encoder_layers
from compress.models.low_rank import factored_embedding_size, layer_ranks
from compress.models.shape import CONFIG_KEY, LayerShape, Shape, config_entry, shape_of_config
from compress.models.sharing import owners_of
from compress.models.token_reduction import token_share
from compress.models.types import TransformersModel


def model_shape(model: TransformersModel) -> Shape:
    """Return the shape of a model from its weights, with the shares of tokens that its layers keep."""
    family = family_of(model.config.model_type)
    config = model.config.to_dict()
    if not family.has_layers:
        return shape_of_config(config)
    head_size = (config.get(CONFIG_KEY) or {}).get("head_size") or config[family.hidden_key] // config[family.heads_key]
    layers = tuple(
        LayerShape(
            layer.attention_output.in_features // head_size, layer.ffn_in.out_features, layer_ranks(layer), token_share(layer.module)
        )
        for layer in encoder_layers(model)
    )
    embedding, owners = factored_embedding_size(model), owners_of(model)
    return Shape(config[family.hidden_key], head_size, layers, embedding, owners, gated=bool(family.ffn_gate))


def record_shape(model: TransformersModel, shape: Shape) -> None:
    """Write a shape, and the size of adapters, into the model's config.

    One FFN width for all layers goes where transformers reads it. Our own entry, `compress`, is written only if the config cannot
    describe the model otherwise.
    """
    widths = {layer.ffn for layer in shape.layers}
    if len(widths) == 1 and 0 not in widths:
        setattr(model.config, family_of(model.config.model_type).ffn_key, widths.pop())
    family = family_of(model.config.model_type)
    if family.head_size_key and shape.head_size * getattr(model.config, family.heads_key) != shape.hidden:
        setattr(model.config, family.head_size_key, shape.head_size)
    plain = {key: value for key, value in model.config.to_dict().items() if key != CONFIG_KEY}
    size, biased = adapter_size(model), has_added_biases(model)
    if shape == shape_of_config(plain) and not size and not biased:
        if hasattr(model.config, CONFIG_KEY):
            delattr(model.config, CONFIG_KEY)
    else:
        setattr(model.config, CONFIG_KEY, config_entry(shape, size, biased))


def stored_config(model: TransformersModel) -> Any:
    """Return the config of a model's checkpoint: the model's own, of ALBERT with groups instead of all their uses, if that is possible."""
    family = family_of(model.config.model_type)
    if not family.grouped:
        return model.config
    shape = model_shape(model)
    record_shape(model, shape)
    config: Any = copy.deepcopy(model.config)
    grouping = grouping_of_owners(shape.shared, len(shape.layers))
    if grouping is None or adapter_size(model):
        return config
    config.num_hidden_layers, config.num_hidden_groups, config.inner_group_num = grouping
    if hasattr(config, CONFIG_KEY):
        delattr(config, CONFIG_KEY)
    return config if shape_of_config(config.to_dict()) == shape else model.config


def count_params(model: nn.Module) -> int:
    """Return the number of parameters of a model, embeddings and head included."""
    return sum(parameter.numel() for parameter in model.parameters())
