"""Disentangled attention (DeBERTa, He et al. 2021, arXiv 2006.03654, eq. 4): scores of contents and of relative positions.

A score is `(q_i k_j + q_i K(i - j) + k_j Q(i - j)) / sqrt(parts size)`: K and Q are the projections of an embedding of the distance, in
DeBERTa-v3 the layer's own key and query projections. Distances are sorted into logarithmic buckets (DeBERTa-v2, section 3).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from compress.models.family import family_of
from compress.models.layers import Layer, find_submodule
from compress.models.types import TransformersModel

TYPES = ("c2p", "p2c")  # content to position, position to content


def score_parts(model: TransformersModel) -> int:
    """Return of how many terms a score of attention is the sum: its scale is `1 / sqrt(parts * head size)`."""
    if not family_of(model.config.model_type).disentangled:
        return 1
    types: Any = model.config.pos_att_type or []
    return 1 + sum(name in types for name in TYPES)


def has_position_terms(model: TransformersModel) -> bool:
    """Return whether the scores of attention have terms of relative positions."""
    config: Any = model.config
    return family_of(config.model_type).disentangled and bool(config.relative_attention) and score_parts(model) > 1


def position_embeddings(model: TransformersModel) -> list[nn.Module]:
    """Return the table of embeddings of distances, and its norm if it has one: both as wide as the hidden states."""
    family = family_of(model.config.model_type)
    if not family.disentangled:
        return []
    encoder = find_submodule(model, f"{family.encoder}.encoder")
    return [part for name in ("rel_embeddings", "LayerNorm") if (part := getattr(encoder, name, None)) is not None]


@torch.no_grad()
def position_tables(model: TransformersModel, layer: Layer) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return a layer's keys and queries of every bucket, (2 * span, heads * size) each; None for a term that its scores do not have."""
    family = family_of(model.config.model_type)
    attention = find_submodule(layer.module, family.attention)
    span = attention.max_relative_positions if family.interleaved else attention.pos_ebd_size
    embeddings = find_submodule(model, f"{family.encoder}.encoder").get_rel_embedding()[: 2 * span]
    shared = getattr(attention, "share_att_key", False)
    key, query = (layer.key, layer.query) if shared else (find_submodule(layer.module, path) for path in family.position_projections)
    keys = key(embeddings) if "c2p" in attention.pos_att_type and key is not None else None
    return keys, query(embeddings) if "p2c" in attention.pos_att_type and query is not None else None


def buckets_by_distance(model: TransformersModel, distances: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows of the keys and of the queries for distances i - j of query i and key j, int64, as transformers computes them."""
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    encoder = find_submodule(model, f"{family_of(model.config.model_type).encoder}.encoder")
    count, longest = getattr(encoder, "position_buckets", 0), encoder.max_relative_positions  # DeBERTa (v1) has no buckets
    span = count if count > 0 else longest

    def bucket(values: torch.Tensor) -> torch.Tensor:
        return (make_log_bucket_position(values, count, longest) if count > 0 else values).to(torch.long)

    return (bucket(distances) + span).clamp(0, 2 * span - 1), (span - bucket(-distances)).clamp(0, 2 * span - 1)
