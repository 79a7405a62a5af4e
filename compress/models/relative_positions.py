"""MPNet's bias of relative positions: one table for all layers, of which a layer without some heads takes the others' columns.

The table, (buckets, heads), stays whole and shared, so that it trains as it did. A layer that lost heads keeps the columns of
those that it has in a buffer of its attention, which is saved with the weights; a hook hands it no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from compress.core.errors import ModelError
from compress.models.family import descend, family_of, layers

COLUMNS = "position_bias_heads"  # the buffer's name


def bias_table(model: Any) -> nn.Embedding | None:
    """Return the table of a model's relative position bias, (buckets, heads), or None where its family has none."""
    family = family_of(model.config.model_type)
    return descend(model, f"{family.encoder}.{family.position_bias}") if family.position_bias else None


def bias_columns(model: Any, attention: Any) -> torch.Tensor | None:
    """Return which columns of the table belong to the heads of a layer's attention, (heads,) int64; None without a table."""
    table = bias_table(model)
    return None if table is None else getattr(attention, COLUMNS, torch.arange(table.embedding_dim))


def keep_bias(model: Any, attention: Any, heads: Sequence[int]) -> None:
    """Leave a layer's attention, in place, the columns of some of the heads that it has; no table, nothing to do.

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
        attention.register_forward_pre_hook(_own_columns)
    attention.register_buffer(COLUMNS, columns[list(heads)].to(table.weight.device))


def _own_columns(attention: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Hand an attention the biases of its own heads: (batch, heads, queries, keys)."""
    hidden, mask, bias, *rest = arguments
    return hidden, mask, bias[:, getattr(attention, COLUMNS)], *rest


def check_columns(model: Any) -> None:
    """Check the columns that were read from a file.

    Raises:
        ModelError: a layer has others than the table.
    """
    family, table = family_of(model.config.model_type), bias_table(model)
    for number, layer in enumerate(layers(model)):
        columns = bias_columns(model, descend(layer.module, family.attention))
        if table is not None and columns is not None and not all(0 <= column < table.embedding_dim for column in columns.tolist()):
            raise ModelError(f"layer {number} takes relative position biases of heads that the model does not have")


def bias_by_distance(model: Any, longest: int) -> torch.Tensor | None:
    """Return the bias of each head by how far the key is behind the query, (heads, 2 * longest); None without a table.

    Distances go 0, 1, ..., longest - 1, -longest, ..., -1, so that a negative one counts from the end.
    """
    table = bias_table(model)
    if table is None:
        return None
    distances = torch.cat([torch.arange(longest), torch.arange(-longest, 0)]).to(table.weight.device)
    encoder = descend(model, family_of(model.config.model_type).encoder).encoder
    return table(encoder.relative_position_bucket(distances)).detach().T
