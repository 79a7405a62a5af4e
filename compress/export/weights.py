"""The weights of an encoder as arrays for a graph: the scale of the scores and the biases of output projections are folded.

The bias of an output projection is added to the residual, which in BERT is the output of the norm before it. So it can be added to
the bias of that norm, if everything else that reads the norm subtracts it again in its own bias. The sum before the next norm is
then one matmul with an addend, and a removed sublayer costs only its norm. Where norms come first, the residual is no norm's output, and
a bias, which such families mostly lack, is added to the residual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.models.adapters import adapter_of
from compress.models.biases import bias_or_zeros
from compress.models.disentangled import has_position_terms, position_tables, score_parts
from compress.models.family import family_of
from compress.models.grouped_heads import equal_heads
from compress.models.layers import Layer, encoder_layers, find_submodule, is_identity, last_norm
from compress.models.low_rank import FactoredLinear
from compress.models.model_shape import model_shape
from compress.models.norms import is_rms_norm, norm_epsilon
from compress.models.relative_positions import bias_by_distance, bias_columns
from compress.models.shape import LayerShape
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    import torch
    from torch import nn

Factors = tuple[np.ndarray, ...]  # matrices that rows are multiplied by in turn: (in, out), or (in, rank) and (rank, out)


@dataclass
class LinearWeights:
    """`x weight + bias`: the weight as its factors, float32, bias (out,) float64.

    With `heads`, it computes each different head once, and these say which of them each head of the layer is.
    """

    factors: Factors
    bias: np.ndarray
    heads: tuple[int, ...] = ()

    @classmethod
    def of(cls, module: nn.Linear | FactoredLinear, scale: float = 1.0) -> LinearWeights:
        """Read a linear layer of PyTorch, or a factorized one, scaled."""
        if isinstance(module, FactoredLinear):
            last = cls.of(module.up, scale)
            return cls((array_of(module.down.weight).T, *last.factors), last.bias)
        return cls((array_of(module.weight).T * np.float32(scale),), _bias_of(module) * scale)

    def unshift(self, shift: np.ndarray) -> None:
        """Subtract the effect of a shift (in,) that was added to every input."""
        for factor in self.factors:
            shift = shift @ factor.astype(np.float64)
        self.bias -= shift


@dataclass
class NormWeights:
    """A LayerNorm over the last axis, or an RMSNorm (`rms`): gain and bias (hidden,) float64, zeros if it has none."""

    gain: np.ndarray
    bias: np.ndarray
    epsilon: float
    rms: bool = False

    @classmethod
    def of(cls, module: nn.LayerNorm) -> NormWeights:
        """Read a LayerNorm of PyTorch, or an RMSNorm."""
        return cls(array_of(module.weight).astype(np.float64), _bias_of(module), norm_epsilon(module), is_rms_norm(module))


@dataclass
class AdapterWeights:
    """`y + gelu(y down) up` for the output y of a projection with its bias (hidden,); the bias of `up` is folded away."""

    bias: np.ndarray
    down: LinearWeights
    up: Factors


@dataclass
class LayerWeights:
    """A layer; `projections` (query, key, value) are None without heads, `inner` (the first projection of the FFN) without neurons.

    The output projections `mixed` and `outer` may be followed by adapters. `gate` is that of a gated FFN. With norms first,
    `attention_norm` is None in a layer that has none, and `mixed_bias` and `outer_bias` are added to the residual.
    `bias_heads` are the rows of the encoder's `position_bias` that its heads use, if there is one; `kind` names its mask and rotation.
    """

    projections: tuple[LinearWeights, LinearWeights, LinearWeights] | None
    mixed: Factors
    attention_norm: NormWeights | None
    inner: LinearWeights | None
    outer: Factors
    output_norm: NormWeights
    bias_heads: tuple[int, ...] = ()
    mixed_adapter: AdapterWeights | None = None
    outer_adapter: AdapterWeights | None = None
    gate: LinearWeights | None = None
    mixed_bias: np.ndarray | None = None
    outer_bias: np.ndarray | None = None
    kind: str = ""
    position_tables: tuple[np.ndarray | None, np.ndarray | None] = (None, None)  # of disentangled attention: keys and queries


@dataclass
class EncoderWeights:
    """The norm of the embeddings or None (EuroBERT), their projection to the hidden width (ELECTRA) or None, and the layers.

    `position_bias` (MPNet) is added to the scores by the distance of key and query; see `bias_by_distance`.
    """

    norm: NormWeights | None
    project: LinearWeights | None
    blocks: list[LayerWeights]
    position_bias: np.ndarray | None = None
    final_norm: NormWeights | None = None  # where norms come first


def encoder_weights(model: TransformersModel, fold_scale: bool = True) -> EncoderWeights:
    """Return a model's weights, with the biases of the output projections folded into the norms of their residuals.

    The scale of the scores, `1/sqrt(head size)`, is folded into the query's weights unless `fold_scale` is false.
    """
    family, shape = family_of(model.config.model_type), model_shape(model)
    module = find_submodule(model, family.encoder)
    project = find_submodule(module, family.embedding_projection)
    norm = NormWeights.of(find_submodule(module, family.embedding_norm)) if family.embedding_norm else None
    encoder = EncoderWeights(norm, None if project is None else LinearWeights.of(project), [])
    if family.position_bias:
        by_distance = bias_by_distance(model, module.embeddings.position_embeddings.num_embeddings)
        encoder.position_bias = None if by_distance is None else array_of(by_distance)
    scale = (score_parts(model) * shape.head_size) ** -0.5 if fold_scale else 1.0
    below = encoder.project or encoder.norm
    for layer, size in zip(encoder_layers(model), shape.layers, strict=True):
        block, mixed_bias, outer_bias = _layer_weights(model, layer, size, scale)
        encoder.blocks.append(block)
        if layer.norms_first or below is None:
            block.mixed_bias, block.outer_bias = _unless_zero(mixed_bias), _unless_zero(outer_bias)
        else:
            below = _fold_biases(block, below, mixed_bias, outer_bias)
    if family.final_norm:
        encoder.final_norm = NormWeights.of(last_norm(model))
    return encoder


def _layer_weights(model: TransformersModel, layer: Layer, size: LayerShape, scale: float) -> tuple[LayerWeights, np.ndarray, np.ndarray]:
    """Read a layer; returns it, and the constants that its output projections add to the residual."""
    projections = None
    if size.heads and layer.query is not None and layer.key is not None and layer.value is not None:
        key, value = (_once_a_group(model, linear, size.heads) for linear in (layer.key, layer.value))
        projections = LinearWeights.of(layer.query, scale), key, value
    mixed, mixed_adapter = _output(layer.attention_output, projections is not None)
    outer, outer_adapter = _output(layer.ffn_out, size.ffn > 0)
    attention = find_submodule(layer.module, family_of(model.config.model_type).attention)
    columns = bias_columns(model, attention) if projections else None
    block = LayerWeights(
        projections,
        mixed.factors,
        None if is_identity(layer.attention_norm) else NormWeights.of(layer.attention_norm),
        LinearWeights.of(layer.ffn_in) if size.ffn else None,
        outer.factors,
        NormWeights.of(layer.output_norm),
        () if columns is None else tuple(columns.tolist()),
        mixed_adapter,
        outer_adapter,
        LinearWeights.of(layer.ffn_gate) if size.ffn and layer.ffn_gate is not None else None,
        kind=layer.kind,
    )
    if projections is not None and has_position_terms(model):
        keys, queries = position_tables(model, layer)
        block.position_tables = (None if keys is None else array_of(keys), None if queries is None else array_of(queries))
    return block, mixed.bias, outer.bias


def _once_a_group(model: TransformersModel, linear: nn.Linear, heads: int) -> LinearWeights:
    """Read keys or values; those that several heads share are computed once."""
    weights = LinearWeights.of(linear)
    if not family_of(model.config.model_type).kv_heads_key or len(weights.factors) != 1:
        return weights
    first = equal_heads(linear.weight, linear.bias, heads)
    computed = sorted(set(first))
    if len(computed) == heads:
        return weights
    matrix, bias = weights.factors[0], weights.bias.reshape(heads, -1)
    computed_heads = np.ascontiguousarray(matrix.reshape(len(matrix), heads, -1)[:, computed].reshape(len(matrix), -1))
    return LinearWeights((computed_heads,), bias[computed].reshape(-1), tuple(computed.index(head) for head in first))


def _fold_biases(
    block: LayerWeights, below: NormWeights | LinearWeights, mixed_bias: np.ndarray, outer_bias: np.ndarray
) -> NormWeights | LinearWeights:
    """Move the constants of a layer's output projections into what their residuals come from; returns that of the next layer."""
    below.bias += mixed_bias
    for projection in block.projections or ():
        projection.unshift(mixed_bias)
    assert block.attention_norm is not None  # noqa: S101 (norms follow the sums)
    block.attention_norm.bias += outer_bias
    for linear in (block.inner, block.gate):
        if linear is not None:
            linear.unshift(outer_bias)
    return block.output_norm


def _unless_zero(bias: np.ndarray) -> np.ndarray | None:
    return bias if bias.any() else None


def _output(module: nn.Linear, used: bool) -> tuple[LinearWeights, AdapterWeights | None]:
    """Read an output projection and its adapter; the bias of the result is the constant that both add, to be folded.

    If it is not `used`, the projection has no input, so its output and that of its adapter are constant.
    """
    linear, adapter = LinearWeights.of(module), adapter_of(module)
    if adapter is None:
        return linear, None
    if not used:
        return LinearWeights(linear.factors, array_of(adapter(bias_or_zeros(module))).astype(np.float64)), None
    up = LinearWeights.of(adapter.up)
    return LinearWeights(linear.factors, up.bias), AdapterWeights(linear.bias, LinearWeights.of(adapter.down), up.factors)


def _bias_of(module: nn.Linear | nn.LayerNorm) -> np.ndarray:
    return array_of(bias_or_zeros(module)).astype(np.float64)


def array_of(parameter: torch.Tensor) -> np.ndarray:
    """Return a parameter, or another tensor, as an array."""
    return parameter.detach().cpu().numpy()
