"""MPNet's relative position bias: one table for all layers, of which a layer with fewer heads uses some columns.

The table, (buckets, heads), stays whole and shared, so it trains as before. A layer that lost heads stores the columns of the
heads it kept in a buffer of its attention, which is saved with the weights; a hook passes it only these columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from compress.core.errors import ModelError
from compress.models.family import family_of
from compress.models.layers import encoder_layers, find_submodule
from compress.models.types import TransformersModel

COLUMNS = "position_bias_heads"  # name of the buffer


def bias_table(model: TransformersModel) -> nn.Embedding | None:
    """Return the table of relative position biases, (buckets, heads); None if the family has none."""
    family = family_of(model.config.model_type)
    return find_submodule(model, f"{family.encoder}.{family.position_bias}") if family.position_bias else None


def bias_columns(model: TransformersModel, attention: nn.Module) -> torch.Tensor | None:
    """Return the columns of the table that belong to the heads of a layer's attention, (heads,) int64; None without a table."""
    table = bias_table(model)
    return None if table is None else getattr(attention, COLUMNS, torch.arange(table.embedding_dim))


def select_bias_columns(model: TransformersModel, attention: nn.Module, heads: Sequence[int]) -> None:
    """Keep the columns of some of the heads of a layer's attention, in place; nothing happens without a table.

    Args:
        model: of the layer.
        attention: the layer's attention module.
        heads: positions of the kept heads among those that the layer has.

    Raises:
        ModelError: more heads than the table has columns.
    """
    columns, table = bias_columns(model, attention), bias_table(model)
    if columns is None or table is None:
        return
    if len(heads) > len(columns):
        raise ModelError(f"a layer of {len(heads)} heads, and relative position biases of {len(columns)}")
    if len(heads) == table.embedding_dim:
        return
    if not hasattr(attention, COLUMNS):
        attention.register_forward_pre_hook(_pass_columns)
    attention.register_buffer(COLUMNS, columns[list(heads)].to(table.weight.device))


def _pass_columns(attention: nn.Module, arguments: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """Replace the position bias in the arguments by that of the layer's heads, (batch, heads, queries, keys)."""
    hidden, mask, bias, *rest = arguments
    return hidden, mask, bias[:, getattr(attention, COLUMNS)], *rest


def check_bias_columns(model: TransformersModel) -> None:
    """Check the columns that were read from a file.

    Raises:
        ModelError: a layer has columns that the table does not have.
    """
    family, table = family_of(model.config.model_type), bias_table(model)
    for number, layer in enumerate(encoder_layers(model)):
        columns = bias_columns(model, find_submodule(layer.module, family.attention))
        if table is not None and columns is not None and not all(0 <= column < table.embedding_dim for column in columns.tolist()):
            raise ModelError(f"layer {number} takes relative position biases of heads that the model does not have")


def bias_by_distance(model: TransformersModel, longest: int) -> torch.Tensor | None:
    """Return the bias of each head by the distance from query to key, (heads, 2 * longest); None without a table.

    Distances are 0, 1, …, longest - 1, -longest, …, -1, so a negative distance indexes from the end.
    """
    table = bias_table(model)
    if table is None:
        return None
    distances = torch.cat([torch.arange(longest), torch.arange(-longest, 0)]).to(table.weight.device)
    encoder = find_submodule(model, family_of(model.config.model_type).encoder).encoder
    return table(encoder.relative_position_bucket(distances)).detach().T
