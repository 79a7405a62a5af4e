"""Low-rank linears and embeddings: two smaller matrices in the place of one.

A model in which some linears are factorized is rebuilt from the ranks that `config.json` records; see `compress.models.shape`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from compress.core.errors import UsageError
from compress.models.family import Layer, descend, family_of, layers
from compress.models.shape import ROLES, Shape

NOT_BOTH = "a model is factorized or has shared layers, not both: take it as it was before"


class FactoredLinear(nn.Module):
    """`U (V x) + b`: V (rank, in) is `down`, U (out, rank) with the bias is `up`.

    It is no `nn.Linear`, so that what reads or resizes the one weight of a linear does not take it for one.
    """

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.down, self.up = nn.Linear(in_features, rank, bias=False), nn.Linear(rank, out_features)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return (..., out) of (..., in)."""
        return self.up(self.down(states))


class FactoredEmbedding(nn.Module):
    """A table of `rank` columns, and a linear from there to the embeddings' width."""

    def __init__(self, rows: int, width: int, rank: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.rank, self.padding_idx = rows, width, rank, padding_idx
        self.table, self.project = nn.Embedding(rows, rank, padding_idx), nn.Linear(rank, width)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return (..., width) of token ids (...)."""
        return self.project(self.table(input_ids))


def put(model: Any, layer: Layer, role: str, module: nn.Module) -> None:
    """Put a module in the place of a layer's linear of some role, in place."""
    parent, _, name = getattr(family_of(model.config.model_type), role).rpartition(".")
    setattr(descend(layer.module, parent), name, module)


def linears(model: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield layer, role and module of all linears with inputs and outputs, from the first layer to the last."""
    for number, layer in enumerate(layers(model)):
        for role in ROLES:
            linear = getattr(layer, role)
            if linear is not None and linear.in_features and linear.out_features:
                yield number, role, linear


def ranks_of(layer: Layer) -> tuple[tuple[str, int], ...]:
    """Return the roles and ranks of a layer's factorized linears."""
    return tuple((role, getattr(layer, role).rank) for role in ROLES if isinstance(getattr(layer, role), FactoredLinear))


def words_of(model: Any) -> Any:
    """Return the word embeddings: an `nn.Embedding` or a `FactoredEmbedding`."""
    return descend(model, family_of(model.config.model_type).encoder).embeddings.word_embeddings


def put_words(model: Any, module: nn.Module) -> None:
    """Put other word embeddings into a model, in place."""
    descend(model, family_of(model.config.model_type).encoder).embeddings.word_embeddings = module


def projection_of(model: Any) -> tuple[int, int] | None:
    """Return rank and width of a model's factorized word embeddings, None where they are one table."""
    words = words_of(model)
    return (words.rank, words.embedding_dim) if isinstance(words, FactoredEmbedding) else None


def factor_as(model: Any, shape: Shape) -> None:
    """Give a model of the right widths fresh factors of the ranks in `shape`, in place, ready for `load_state_dict`."""
    for layer, wanted in zip(layers(model), shape.layers, strict=True):
        for role, rank in wanted.ranks:
            linear = getattr(layer, role)
            put(model, layer, role, FactoredLinear(linear.in_features, linear.out_features, rank))
    if shape.embedding is not None:
        words, (rank, width) = words_of(model), shape.embedding
        put_words(model, FactoredEmbedding(words.num_embeddings, width, rank, words.padding_idx))


def is_factorized(model: Any) -> bool:
    """Tell whether some linear, or the word embeddings, are two matrices."""
    return projection_of(model) is not None or any(ranks_of(layer) for layer in layers(model))


def refuse_factorized(model: Any, verb: str) -> None:
    """Refuse what needs each linear in one piece.

    Raises:
        UsageError: some are factorized.
    """
    if is_factorized(model):
        raise UsageError(
            f"{verb} does not take a factorized model",
            NOT_BOTH if verb == "share" else f"{verb} the model first, then factorize the outcome",
        )
