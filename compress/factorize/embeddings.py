"""Factorize token embeddings: a narrow table and a projection."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from compress.core.errors import UsageError
from compress.data.encoded import Encoded
from compress.factorize.allocate import break_even
from compress.factorize.svd import factored_table
from compress.models.low_rank import FactoredEmbedding, set_word_embeddings, word_embeddings
from compress.models.types import TransformersModel


def factorize_embeddings(model: TransformersModel, data: Encoded, rank: int, uniform: bool = False) -> None:
    """Replace the token embeddings by a table of `rank` columns and a projection, in place.

    Args:
        model: with token embeddings in one table.
        data: texts in which tokens are counted; each count is increased by one, so that no token has weight 0.
        rank: of the table.
        uniform: weight all tokens equally instead.

    Raises:
        UsageError: a rank at which the embeddings are not smaller.
    """
    embeddings = word_embeddings(model)
    assert isinstance(embeddings, nn.Embedding)  # noqa: S101 (`load_dense_model` refuses factorized ones)
    rows, width = embeddings.num_embeddings, embeddings.embedding_dim
    largest = min(break_even((rows, width)), width - 1)
    if rank > largest:
        raise UsageError(
            f"token embeddings of {rows:,} x {width} are no smaller at rank {rank}", f"give --embedding-rank {max(1, largest)} or less"
        )
    counts = np.ones(rows)
    if not uniform:
        counts += np.bincount(np.concatenate(data.input_ids), minlength=rows)
    table, projection, bias = factored_table(embeddings.weight, torch.from_numpy(counts), rank)
    factored = FactoredEmbedding(rows, width, rank, embeddings.padding_idx)
    with torch.no_grad():
        factored.table.weight.copy_(table)
        factored.project.weight.copy_(projection)
        factored.project.bias.copy_(bias)
    set_word_embeddings(model, factored.eval())
