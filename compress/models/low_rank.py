"""Low-rank linears and embeddings: two smaller matrices instead of one.

A factorized model is rebuilt from the ranks in its `config.json`; see `compress.models.shape`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from compress.core.errors import UsageError
from compress.models.family import family_of
from compress.models.layers import Layer, encoder_layers, find_submodule
from compress.models.shape import ROLES, Shape
from compress.models.types import TransformersModel


class FactoredLinear(nn.Module):
    """`U (V x) + b`: `down` is V (rank, in), `up` is U (out, rank) with the bias.

    Deliberately not an `nn.Linear`: code that reads or resizes a linear's weight must not treat it as one.
    """

    def __init__(self, in_features: int, out_features: int, rank: int) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.down, self.up = nn.Linear(in_features, rank, bias=False), nn.Linear(rank, out_features)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return (..., out) for (..., in)."""
        return self.up(self.down(states))


class FactoredEmbedding(nn.Module):
    """A table of `rank` columns, projected to the embeddings' width."""

    def __init__(self, rows: int, width: int, rank: int, padding_idx: int | None = None) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.rank, self.padding_idx = rows, width, rank, padding_idx
        self.table, self.project = nn.Embedding(rows, rank, padding_idx), nn.Linear(rank, width)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return (..., width) for token ids (...)."""
        return self.project(self.table(input_ids))


def replace_linear(model: TransformersModel, layer: Layer, role: str, module: nn.Module) -> None:
    """Replace a layer's linear, given by its role, in place."""
    parent, _, name = getattr(family_of(model.config.model_type), role).rpartition(".")
    setattr(find_submodule(layer.module, parent) if parent else layer.module, name, module)


def encoder_linears(model: TransformersModel) -> Iterator[tuple[int, str, nn.Linear | FactoredLinear]]:
    """Yield (layer number, role, linear) from the first layer to the last, without linears that have no inputs or outputs."""
    for number, layer in enumerate(encoder_layers(model)):
        for role in ROLES:
            linear = getattr(layer, role)
            if linear is not None and linear.in_features and linear.out_features:
                yield number, role, linear


def layer_ranks(layer: Layer) -> tuple[tuple[str, int], ...]:
    """Return (role, rank) of a layer's factorized linears, in the order of `ROLES`."""
    return tuple((role, getattr(layer, role).rank) for role in ROLES if isinstance(getattr(layer, role), FactoredLinear))


def word_embeddings(model: TransformersModel) -> nn.Embedding | FactoredEmbedding:
    """Return the word embeddings."""
    family = family_of(model.config.model_type)
    return find_submodule(model, f"{family.encoder}.{family.word_embeddings}")


def set_word_embeddings(model: TransformersModel, module: nn.Embedding | FactoredEmbedding) -> None:
    """Replace the word embeddings, in place."""
    family = family_of(model.config.model_type)
    parent, _, name = f"{family.encoder}.{family.word_embeddings}".rpartition(".")
    setattr(find_submodule(model, parent), name, module)


def factored_embedding_size(model: TransformersModel) -> tuple[int, int] | None:
    """Return (rank, width) of factorized word embeddings; None if they are one table."""
    embeddings = word_embeddings(model)
    return (embeddings.rank, embeddings.embedding_dim) if isinstance(embeddings, FactoredEmbedding) else None


def factorize_as(model: TransformersModel, shape: Shape) -> None:
    """Give a model new, random factors of the ranks in `shape`, in place, ready for `load_state_dict`.

    Args:
        model: its linears already have the sizes in `shape`.
        shape: the ranks of the layers and of the embeddings.
    """
    for layer, target in zip(encoder_layers(model), shape.layers, strict=True):
        for role, rank in target.ranks:
            linear = getattr(layer, role)
            replace_linear(model, layer, role, FactoredLinear(linear.in_features, linear.out_features, rank))
    if shape.embedding is not None:
        table, (rank, width) = word_embeddings(model), shape.embedding
        set_word_embeddings(model, FactoredEmbedding(table.num_embeddings, width, rank, table.padding_idx))


def is_factorized(model: TransformersModel) -> bool:
    """Return whether some linear or the word embeddings are two matrices."""
    return factored_embedding_size(model) is not None or any(layer_ranks(layer) for layer in encoder_layers(model))


def refuse_factorized(model: TransformersModel, verb: str) -> None:
    """Refuse a model with factorized linears or embeddings.

    Raises:
        UsageError: the model is factorized.
    """
    if is_factorized(model):
        raise UsageError(
            f"{verb} does not support factorized models",
            f"{verb} the model first, then factorize the result",
        )
