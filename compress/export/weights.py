"""The weights of an encoder as arrays for a graph: the scale of the scores and the biases of output projections are folded.

The bias of an output projection is added to the residual, which is the output of the norm before it. So it can be added to the
bias of that norm, if everything else that reads the norm subtracts it again in its own bias. The sum before the next norm is
then one matmul with an addend, and a removed sublayer costs only its norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compress.models.adapters import adapter_of
from compress.models.family import family_of
from compress.models.layers import encoder_layers, find_submodule
from compress.models.low_rank import FactoredLinear
from compress.models.model_shape import model_shape
from compress.models.relative_positions import bias_by_distance, bias_columns
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    import torch
    from torch import nn

Factors = tuple[np.ndarray, ...]  # matrices that rows are multiplied by in turn: (in, out), or (in, rank) and (rank, out)


@dataclass
class LinearWeights:
    """`x weight + bias`: the weight as its factors, float32, bias (out,) float64."""

    factors: Factors
    bias: np.ndarray

    @classmethod
    def of(cls, module: nn.Linear | FactoredLinear, scale: float = 1.0) -> LinearWeights:
        """Read a linear layer of PyTorch, or a factorized one, scaled."""
        if isinstance(module, FactoredLinear):
            last = cls.of(module.up, scale)
            return cls((array_of(module.down.weight).T, *last.factors), last.bias)
        return cls((array_of(module.weight).T * np.float32(scale),), array_of(module.bias).astype(np.float64) * scale)

    def unshift(self, shift: np.ndarray) -> None:
        """Subtract the effect of a shift (in,) that was added to every input."""
        for factor in self.factors:
            shift = shift @ factor.astype(np.float64)
        self.bias -= shift


@dataclass
class NormWeights:
    """A LayerNorm over the last axis: gain and bias (hidden,) float64."""

    gain: np.ndarray
    bias: np.ndarray
    epsilon: float

    @classmethod
    def of(cls, module: nn.LayerNorm) -> NormWeights:
        """Read a PyTorch LayerNorm."""
        return cls(array_of(module.weight).astype(np.float64), array_of(module.bias).astype(np.float64), float(module.eps))


@dataclass
class AdapterWeights:
    """`y + gelu(y down) up` for the output y of a projection with its bias (hidden,); the bias of `up` is folded away."""

    bias: np.ndarray
    down: LinearWeights
    up: Factors


@dataclass
class LayerWeights:
    """A layer; `projections` (query, key, value) are None without heads, `inner` (the first projection of the FFN) without neurons.

    The output projections `mixed` and `outer` may be followed by adapters.
    `bias_heads` are the rows of the encoder's `position_bias` that its heads use, if there is one.
    """

    projections: tuple[LinearWeights, LinearWeights, LinearWeights] | None
    mixed: Factors
    attention_norm: NormWeights
    inner: LinearWeights | None
    outer: Factors
    output_norm: NormWeights
    bias_heads: tuple[int, ...] = ()
    mixed_adapter: AdapterWeights | None = None
    outer_adapter: AdapterWeights | None = None


@dataclass
class EncoderWeights:
    """The norm of the embeddings, their projection to the hidden width (ELECTRA) or None, and the layers.

    `position_bias` (MPNet) is added to the scores by the distance of key and query; see `bias_by_distance`.
    """

    norm: NormWeights
    project: LinearWeights | None
    blocks: list[LayerWeights]
    position_bias: np.ndarray | None = None


def encoder_weights(model: TransformersModel, fold_scale: bool = True) -> EncoderWeights:
    """Return a model's weights, with the biases of the output projections folded into the norms of their residuals.

    The scale of the scores, `1/sqrt(head size)`, is folded into the query's weights unless `fold_scale` is false.
    """
    family, shape = family_of(model.config.model_type), model_shape(model)
    module = find_submodule(model, family.encoder)
    project = getattr(module, "embeddings_project", None)
    encoder = EncoderWeights(NormWeights.of(module.embeddings.LayerNorm), None if project is None else LinearWeights.of(project), [])
    by_distance = bias_by_distance(model, module.embeddings.position_embeddings.num_embeddings)
    encoder.position_bias = None if by_distance is None else array_of(by_distance)
    below: NormWeights | LinearWeights = encoder.project or encoder.norm
    scale = shape.head_size**-0.5 if fold_scale else 1.0
    for layer, size in zip(encoder_layers(model), shape.layers, strict=True):
        projections = None
        if size.heads and layer.query is not None and layer.key is not None and layer.value is not None:
            projections = LinearWeights.of(layer.query, scale), LinearWeights.of(layer.key), LinearWeights.of(layer.value)
        mixed, mixed_adapter = _output(layer.attention_output, projections is not None)
        outer, outer_adapter = _output(layer.ffn_out, size.ffn > 0)
        inner = LinearWeights.of(layer.ffn_in) if size.ffn else None
        attention_norm, output_norm = NormWeights.of(layer.attention_norm), NormWeights.of(layer.output_norm)
        below.bias += mixed.bias
        for projection in projections or ():
            projection.unshift(mixed.bias)
        attention_norm.bias += outer.bias
        if inner is not None:
            inner.unshift(outer.bias)
        columns = bias_columns(model, find_submodule(layer.module, family.attention)) if projections else None
        heads = () if columns is None else tuple(columns.tolist())
        block = LayerWeights(
            projections, mixed.factors, attention_norm, inner, outer.factors, output_norm, heads, mixed_adapter, outer_adapter
        )
        encoder.blocks.append(block)
        below = output_norm
    return encoder


def _output(module: nn.Linear, used: bool) -> tuple[LinearWeights, AdapterWeights | None]:
    """Read an output projection and its adapter; the bias of the result is the constant that both add, to be folded.

    If it is not `used`, the projection has no input, so its output and that of its adapter are constant.
    """
    linear, adapter = LinearWeights.of(module), adapter_of(module)
    if adapter is None:
        return linear, None
    if not used:
        return LinearWeights(linear.factors, array_of(adapter(module.bias)).astype(np.float64)), None
    up = LinearWeights.of(adapter.up)
    return LinearWeights(linear.factors, up.bias), AdapterWeights(linear.bias, LinearWeights.of(adapter.down), up.factors)


def array_of(parameter: torch.Tensor) -> np.ndarray:
    """Return a parameter, or another tensor, as an array."""
    return parameter.detach().cpu().numpy()
