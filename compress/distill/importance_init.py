"""Initialise a narrower student with the most important dimensions, heads and neurons of its teacher.

Hidden dimensions are selected once for the whole model, because the residual stream carries them from layer to layer: embeddings,
LayerNorms and all weights that read or write them follow. A rotation to better dimensions, as in SliceGPT, does not commute with
the LayerNorm after the residual addition. The student is a plain checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from compress.core.errors import UsageError
from compress.distill.init_texts import InitTexts
from compress.distill.layer_statistics import (
    LayerStatistics,
    collect_statistics,
    outlier_dimensions,
    select_heads,
    summed_over_owners,
)
from compress.editing.layer_norms import match_layer_norms
from compress.editing.width import hidden_scores, top_positions
from compress.models.biases import bias_or_zeros
from compress.models.build import build_model
from compress.models.disentangled import position_embeddings
from compress.models.embedder import head_of, is_embedder_model, vector_size
from compress.models.family import family_of
from compress.models.layers import Layer, encoder_layers, find_submodule, last_norm, repeated_kinds
from compress.models.model_shape import model_shape
from compress.models.relative_positions import bias_table
from compress.models.sentence_head import EMBEDDING_KEY, head_for_width
from compress.models.shape import CONFIG_KEY, Shape
from compress.models.sharing import all_owners, share_parameters
from compress.models.types import TransformersModel

INIT_STD = 0.02  # of new weights, as in BERT
MIN_SCALE = 1e-6


def randomly_initialized(teacher: TransformersModel, shape: Shape) -> TransformersModel:
    """Return a model of the teacher's family, head and vocabulary with other sizes, its weights drawn by transformers.

    Raises:
        UsageError: an ELECTRA as wide as its embeddings, which would have no embedding projection.
    """
    family, config = family_of(teacher.config.model_type), copy.deepcopy(teacher.config)
    first = shape.layers[0]
    sizes = {
        family.hidden_key: shape.hidden,
        family.heads_key: first.heads,
        family.ffn_key: first.ffn,
        family.layers_key: len(shape.layers),
    }
    if family.kv_heads_key:
        sizes[family.kv_heads_key] = first.heads
    if hasattr(config, "pooler_hidden_size"):  # DeBERTa has the width twice
        sizes["pooler_hidden_size"] = shape.hidden
    projected = find_submodule(teacher, f"{family.encoder}.{family.embedding_projection}") is not None
    if hasattr(config, "embedding_size"):
        if projected and config.embedding_size == shape.hidden and not family.grouped:  # ALBERT projects them always
            raise UsageError(f"an ELECTRA student cannot be {shape.hidden} wide, the width of its embeddings", "choose another width")
        sizes["embedding_size"] = config.embedding_size if projected else shape.hidden
    for key, value in sizes.items():
        setattr(config, key, value)
    if kinds := getattr(config, "layer_types", None):
        config.layer_types = repeated_kinds(kinds, len(shape.layers))
    if family.head_size_key and hasattr(config, family.head_size_key):  # of a narrowed teacher
        delattr(config, family.head_size_key)
        if hasattr(config, family.head_size_key):  # a field of its class: None, which transformers fills in for new configs only
            setattr(config, family.head_size_key, shape.hidden // first.heads)
    if hasattr(config, CONFIG_KEY):
        delattr(config, CONFIG_KEY)
    if is_embedder_model(teacher):  # vectors keep their size
        setattr(config, EMBEDDING_KEY, head_for_width(head_of(config), shape.hidden, vector_size(teacher)).as_json())
    student = build_model(type(teacher), config).eval()
    share_parameters(student, shape.shared)
    return student


@torch.no_grad()
def initialize_by_importance(source: TransformersModel, shape: Shape, texts: InitTexts) -> TransformersModel:
    """Return a smaller copy of a model with the same depth.

    If the copy's layers share weights, they do so as the model's: heads and neurons are selected by what matters in all of them together.

    Args:
        source: a dense model with its head, in evaluation mode on the CPU, which does not change.
        shape: at most as wide, with at most as many heads and neurons; all layers equal.
        texts: that importance is measured on.

    Raises:
        UsageError: as `randomly_initialized` raises it; or heads of another size in a DeBERTa whose positions have their own projections.
    """
    student, old = randomly_initialized(source, shape), model_shape(source)
    if old.head_size != shape.head_size and next(encoder_layers(source)).position_projections:
        raise UsageError(
            f"heads of size {old.head_size} cannot be refitted to size {shape.head_size}: positions have projections of their own",
            f"choose width and heads so that a head keeps its size ({old.head_size}), or --init random",
        )
    with torch.enable_grad():
        scores = hidden_scores(source, *texts.batches_with_loss(source))
    scores[outlier_dimensions(source)] += scores.max() + 1
    kept = top_positions(scores, shape.hidden)
    statistics = collect_statistics(source, texts)
    if shape.shared:
        statistics = summed_over_owners(statistics, all_owners(source))
    chosen = select_heads(source, statistics, shape.layers[0].heads)
    rotary = family_of(source.config.model_type).rotary
    _copy_embeddings(source, student, kept, chosen[0])
    for large, small, heads, sums in zip(encoder_layers(source), encoder_layers(student), chosen, statistics, strict=True):
        _copy_layer(large, small, kept, heads, sums, (old.head_size, shape.head_size), rotary)
    if family_of(source.config.model_type).final_norm:
        _copy_norm(last_norm(source), last_norm(student), kept)
    _copy_head(source, student, kept, texts)
    if shape.hidden < old.hidden or shape.layers[0] != old.layers[0]:
        match_layer_norms(source, student, kept, texts.batches(source))
    return student


def _copy_embeddings(source: TransformersModel, student: TransformersModel, kept: list[int], heads: list[int]) -> None:
    """Copy the embeddings, and for MPNet the columns of these heads in the table of relative positions."""
    family = family_of(source.config.model_type)
    large, small = (find_submodule(model, family.encoder) for model in (source, student))
    projection = find_submodule(large, family.embedding_projection)
    holder = family.word_embeddings.partition(".")[0]  # the embeddings, or their table alone
    for name, module in find_submodule(large, holder).named_modules(prefix=holder):
        target = find_submodule(small, name)
        if isinstance(module, nn.Embedding):
            target.weight.copy_(module.weight if projection is not None else module.weight[:, kept])
        elif isinstance(module, nn.LayerNorm):
            _copy_norm(module, target, list(range(len(module.weight))) if projection is not None else kept)
    if projection is not None:
        _copy_linear(projection, find_submodule(small, family.embedding_projection), rows=kept)
    for module, target in zip(position_embeddings(source), position_embeddings(student), strict=True):
        if isinstance(module, nn.Embedding) and isinstance(target, nn.Embedding):
            target.weight.copy_(module.weight[:, kept])
        elif isinstance(module, nn.LayerNorm) and isinstance(target, nn.LayerNorm):
            _copy_norm(module, target, kept)
    source_table, student_table = bias_table(source), bias_table(student)
    if source_table is not None and student_table is not None:
        student_table.weight.copy_(source_table.weight[:, heads])


def _copy_norm(large: nn.LayerNorm, small: nn.LayerNorm, kept: list[int]) -> None:
    small.weight.copy_(large.weight[kept])
    if getattr(large, "bias", None) is not None:
        small.bias.copy_(large.bias[kept])


def _copy_linear(large: nn.Linear, small: nn.Linear, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None) -> None:
    weight = large.weight if rows is None else large.weight[list(rows)]
    small.weight.copy_(weight if columns is None else weight[:, list(columns)])
    if large.bias is not None:
        small.bias.copy_(large.bias if rows is None else large.bias[list(rows)])


def _copy_layer(
    large: Layer, small: Layer, kept: list[int], heads: list[int], statistics: LayerStatistics, sizes: tuple[int, int], rotary: bool
) -> None:
    """Copy a layer: its heads refitted from an old size to a new one, its neurons selected by the mean square of their output."""
    old, new = sizes
    scale = statistics.inputs[kept].sqrt().clamp_min(MIN_SCALE)
    scale = torch.cat([scale / scale.mean(), torch.ones(1, dtype=torch.float64)])  # the bias has a constant input of one
    for position, head in enumerate(heads):
        large_rows, small_rows = slice(head * old, (head + 1) * old), slice(position * new, (position + 1) * new)
        reads = [
            torch.cat([part.weight[large_rows][:, kept], bias_or_zeros(part)[large_rows, None]], 1).double() for part in _projections(large)
        ]
        writes = large.attention_output.weight[kept][:, large_rows].double()
        if old != new:
            if rotary:
                query, key = (each[rotated_dimensions(old, new)] * scale for each in reads[:2])
            else:
                query, key = low_rank_factors(reads[0] * scale, reads[1] * scale, new)
            value, output = low_rank_factors(reads[2] * scale, writes.T, new)
            temperature = (new / old) ** 0.25  # scores are divided by sqrt(new), and were by sqrt(old)
            reads, writes = [temperature * query / scale, temperature * key / scale, value / scale], output.T
        for part, read in zip(_projections(small), reads, strict=True):
            part.weight[small_rows] = read[:, :-1].float()
            if part.bias is not None:
                part.bias[small_rows] = read[:, -1].float()
        small.attention_output.weight[:, small_rows] = writes.float()
        for large_part, small_part in zip(large.position_projections, small.position_projections, strict=True):
            small_part.weight[small_rows] = large_part.weight[large_rows][:, kept]
            if small_part.bias is not None:
                small_part.bias[small_rows] = large_part.bias[large_rows]
    if large.attention_output.bias is not None:
        small.attention_output.bias.copy_(large.attention_output.bias[kept])
    neurons = top_positions(statistics.neurons * large.ffn_out.weight[kept].double().square().sum(0), small.ffn_in.out_features)
    _copy_linear(large.ffn_in, small.ffn_in, neurons, kept)
    if large.ffn_gate is not None and small.ffn_gate is not None:
        _copy_linear(large.ffn_gate, small.ffn_gate, neurons, kept)
    _copy_linear(large.ffn_out, small.ffn_out, kept, neurons)
    for large_norm, small_norm in zip(large.norms, small.norms, strict=True):
        _copy_norm(large_norm, small_norm, kept)


def rotated_dimensions(old: int, new: int) -> list[int]:
    """Return which dimensions of a rotated head a smaller one keeps: pairs (i, i + old / 2), of nearly its own frequencies.

    Pair i turns by `theta^(-2 i / size)` a token, so pair i of the smaller head is pair `i old / new` of the larger one. A larger head
    repeats pairs.

    >>> rotated_dimensions(8, 4)
    [0, 2, 4, 6]
    """
    first = [pair * old // new for pair in range(new // 2)]
    return [*first, *(pair + old // 2 for pair in first)]


def _projections(layer: Layer) -> list[nn.Linear]:
    return [part for part in (layer.query, layer.key, layer.value) if part is not None]


def low_rank_factors(first: torch.Tensor, second: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two factors of `size` rows whose product A'B is nearest to that of the given ones.

    Args:
        first: (old size, m).
        second: (old size, n).
        size: rows of the factors. Rows beyond the old size add nothing but can learn: small random rows in A, zeros in B.

    Returns:
        A, (size, m), and B, (size, n).
    """
    (q1, r1), (q2, r2) = torch.linalg.qr(first.T), torch.linalg.qr(second.T)
    u, values, vh = torch.linalg.svd(r1 @ r2.T)
    rank = min(size, len(values))
    roots = values[:rank].sqrt()
    factors = (q1 @ u[:, :rank] * roots).T, (q2 @ vh[:rank].T * roots).T
    if rank == size:
        return factors
    spare = size - rank
    noise = INIT_STD * torch.randn(spare, first.shape[1], dtype=first.dtype, generator=torch.Generator().manual_seed(spare))
    return torch.cat([factors[0], noise]), torch.cat([factors[1], torch.zeros(spare, second.shape[1], dtype=second.dtype)])


def copy_steps(source: TransformersModel, student: TransformersModel, kept: Sequence[int]) -> None:
    """Copy what follows the pooling of an embedder; a narrower student's first dense layer puts its dimensions in their old places."""
    large: Any = source.steps
    small: Any = student.steps
    added = len(small) - len(large)
    with torch.no_grad():
        for before, after in zip(large, list(small)[added:], strict=True):
            after.load_state_dict(before.state_dict())
        for dense in list(small)[:added]:
            dense.linear.weight.zero_()
            dense.linear.bias.zero_()
            old, new = model_shape(source).hidden, len(kept)
            for mode in range(len(head_of(source.config).pooling)):
                for position, dimension in enumerate(kept):
                    dense.linear.weight[mode * old + dimension, mode * new + position] = 1


def _copy_head(source: TransformersModel, student: TransformersModel, kept: list[int], texts: InitTexts) -> None:
    """Copy the head; from its hidden layer, if it has one, the units with the largest weights to the logits."""
    if is_embedder_model(source):
        copy_steps(source, student, kept)
        return
    family = family_of(source.config.model_type)
    large_last, small_last = (find_submodule(model, family.last_linear(texts.target)) for model in (source, student))
    inner = kept
    for part in family.head_parts(texts.target):
        for name, module in find_submodule(source, part).named_modules(prefix=part):
            if isinstance(module, nn.Linear) and module is not large_last:
                inner = top_positions(large_last.weight.square().sum(0) * module.weight[:, kept].square().sum(1), len(kept))
                _copy_linear(module, find_submodule(student, name), inner, kept)
            elif isinstance(module, nn.LayerNorm):
                _copy_norm(module, find_submodule(student, name), inner)
    _copy_linear(large_last, small_last, columns=inner)
