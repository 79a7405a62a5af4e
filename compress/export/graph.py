"""Write the ONNX graph of a model directly from its weights, exact for every shape.

Layers may have different numbers of heads, or no heads or FFN. Tokens are rows of one matrix, so every projection with its bias,
or with the residual that it is added to, is one Gemm. A text classifier reads the first token only: from the last layer with
attention on, no other token is computed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from compress.core.errors import UsageError
from compress.export.attention import PLAIN, GraphForm, attention, attention_mask_bias, packed
from compress.export.block_attention import Parts, block_mask, heads_at_once
from compress.export.builder import GraphBuilder, GraphOutput, RowGraph
from compress.export.disentangled import DistanceRows, PositionTerms
from compress.export.heads import HEADS, add_activation, add_linear, modernbert_transform
from compress.export.pooling import sentence_vectors
from compress.export.positions import position_bias
from compress.export.recurrent import lstm_rows
from compress.export.rotary import SLIDING, rotation, window_mask
from compress.export.static_model import static_rows
from compress.export.token_selection import token_selection
from compress.export.weights import (
    AdapterWeights,
    EncoderWeights,
    Factors,
    LayerWeights,
    LinearWeights,
    array_of,
    encoder_weights,
)
from compress.inference.onnx_session import STATES, VECTOR
from compress.models.config import max_tokens
from compress.models.disentangled import has_position_terms, score_parts
from compress.models.embedder import head_of, is_embedder_model, state_width, vector_size
from compress.models.family import BILSTM, STATIC, TOKEN_HEADS, family_of
from compress.models.layers import (
    activation_name,
    find_submodule,
    reads_every_token,
)
from compress.models.low_rank import FactoredEmbedding, word_embeddings
from compress.models.model_shape import model_shape
from compress.models.shape import Shape
from compress.models.token_reduction import reduces_tokens
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    from torch import nn


def build_graph(model: TransformersModel, form: GraphForm = PLAIN) -> onnx.ModelProto:
    """Return the ONNX model: token ids (and types) and mask in, `logits` out (`start_logits`, `end_logits` of a span).

    An embedder's outputs are `sentence_embedding`, its vectors, pooled with the mask; and `last_hidden_state`, the vectors of all
    tokens, unless its pooling reads the first token only or tokens are dropped.

    Args:
        model: in evaluation mode, of any shape.
        form: of the graph; every form computes the same.

    Raises:
        ModelError: the activation or the position scheme is not supported.
        UsageError: a form that the model's attention does not have.
    """
    family, graph = family_of(model.config.model_type), RowGraph(form.opset)
    if form.attention == "blocks" and not attends_by_parts(model):
        raise UsageError(
            f"attention of this {family.prefix} has no form in blocks: its scores have terms of positions, or it drops tokens",
            "use --attention plain",
        )
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if family.token_types else [])]
    if is_embedder_model(model):
        every_token = family is not STATIC and (form.token_embeddings or not head_of(model.config).first_token_only)
        read = _states(graph, model, form, every_token)
        hidden = state_width(model.config)
        if every_token:
            read = graph.shaped(read, [hidden], "tokens")
        outputs: dict[str, GraphOutput] = {VECTOR: (sentence_vectors(graph, model, read, every_token), ["batch", vector_size(model)])}
        if every_token and not reduces_tokens(model):
            outputs[STATES] = (read, ["batch", "sequence", hidden])
        return graph.model(inputs, outputs)
    head = type(model).__name__.removeprefix(family.prefix)
    every_token = head in TOKEN_HEADS
    labels = len(model.config.id2label or {})
    hidden = _states(graph, model, form, every_token or reads_every_token(model.config))
    if not every_token:
        return graph.model(inputs, {"logits": (HEADS[family.head](graph, model, hidden), ["batch", labels])})
    if family.token_head_modules:
        hidden = modernbert_transform(graph, model, hidden)
    last = family.last_linear("span" if head == "ForQuestionAnswering" else "tags")
    logits = graph.shaped(add_linear(graph, hidden, find_submodule(model, last), last), [labels], f"{last}.tokens")
    if head == "ForQuestionAnswering":
        return graph.model(inputs, _ends(graph, logits))
    return graph.model(inputs, {"logits": (logits, ["batch", "sequence", labels])})


def attends_by_parts(model: TransformersModel) -> bool:
    """Return whether a model's attention has the form `blocks`: no position adds something to the scores, and no token is dropped."""
    family = family_of(model.config.model_type)
    return not family.position_bias and not has_position_terms(model) and not reduces_tokens(model)


def _states(graph: RowGraph, model: TransformersModel, form: GraphForm, every_token: bool) -> str:
    """Add everything before the head; returns (batch, width) of texts, or (batch * sequence, width) of every token."""
    family = family_of(model.config.model_type)
    if family is STATIC:
        return static_rows(graph, model)
    return lstm_rows(graph, model, every_token) if family is BILSTM else _encoder(graph, model, form, every_token)


def _encoder(graph: RowGraph, model: TransformersModel, form: GraphForm, every_token: bool) -> str:
    """Add embeddings and layers; returns (batch, hidden) of first tokens, or (batch * sequence, hidden) of every token."""
    shape = model_shape(model)
    weights = encoder_weights(model, fold_scale=form.scale == "folded")
    mixing = [number for number, layer in enumerate(shape.layers) if layer.heads]
    last_mixing = None if every_token else mixing[-1] if mixing else -1
    hidden = _embeddings(graph, model, weights, first_only=last_mixing == -1)
    layers = _Layers(graph, model, weights, form, shape)
    left = 1.0
    for number, (block, size, share) in enumerate(zip(weights.blocks, shape.layers, shape.token_shares, strict=True)):
        name = f"layer.{number}"
        select = share if share < left and number != last_mixing else None
        left = share
        hidden = layers.attention(hidden, block, size.heads, number == last_mixing, f"{name}.attention", select)
        hidden = layers.ffn(hidden, block, f"{name}.ffn")
    return hidden if weights.final_norm is None else graph.layer_norm(hidden, weights.final_norm, "final.norm")


@dataclass
class _Layers:
    """Adds the sublayers of an encoder to a graph; each takes the rows of the residual stream and returns those after it."""

    graph: RowGraph
    model: TransformersModel
    weights: EncoderWeights
    form: GraphForm
    shape: Shape

    @property
    def norms_first(self) -> bool:
        """Whether a norm precedes its sublayer."""
        return self.weights.final_norm is not None

    def attention(self, hidden: str, block: LayerWeights, heads: int, first_only: bool, name: str, share: float | None = None) -> str:
        """Add self-attention; with `first_only` it returns the first token of every text, with a `share` only so many tokens."""
        graph, shape = self.graph, self.shape
        residual = read = hidden
        if block.projections is not None:
            if self.norms_first and block.attention_norm is not None:
                read = graph.layer_norm(hidden, block.attention_norm, f"{name}.norm")
            queries = read
            if first_only:
                prefix = name.removesuffix(".attention")
                residual = queries = graph.first_token(hidden, shape.hidden, f"{prefix}.first")
                if read != hidden:
                    queries = graph.first_token(read, shape.hidden, f"{prefix}.normed.first")
            turned = rotation(graph, self.model, block.kind) if family_of(self.model.config.model_type).rotary else None
            form = self.form if share is None else replace(self.form, attention="plain")  # the only one that shows its weights
            mask = self._mask(block, first_only, form)
            size = shape.head_size
            parts, terms = score_parts(self.model), self._position_terms(block)
            context = attention(
                graph, block.projections, (queries, read), mask, heads, size, name, form, turned, terms, parts, self._parts(block)
            )
            if share is not None:
                rows = token_selection(graph, f"{name}.weights", share, max_tokens(self.model.config.to_dict()), self._has_positions)
                context = graph.node("Gather", [context, rows], f"{name}.context.kept")
                residual = graph.node("Gather", [residual, rows], f"{name}.residual.kept")
            residual = self._shifted(residual, block.mixed_bias, name)
            residual = _finish(graph, context, block.mixed, block.mixed_adapter, residual, f"{name}.out")
        else:
            residual = self._shifted(residual, block.mixed_bias, name)
        if self.norms_first or block.attention_norm is None:
            return residual
        return graph.layer_norm(residual, block.attention_norm, f"{name}.norm")

    def ffn(self, hidden: str, block: LayerWeights, name: str) -> str:
        """Add the FFN."""
        graph, activation = self.graph, activation_name(self.model)
        residual = self._shifted(hidden, block.outer_bias, name)
        if block.inner is not None:
            read = graph.layer_norm(hidden, block.output_norm, f"{name}.norm") if self.norms_first else hidden
            if block.gate is None:
                inner = add_activation(graph, graph.linear(read, block.inner, f"{name}.in"), activation, f"{name}.act")
            else:
                inner = self._gated(read, block.gate, block.inner, activation, name)
            residual = _finish(graph, inner, block.outer, block.outer_adapter, residual, f"{name}.out")
        return residual if self.norms_first else graph.layer_norm(residual, block.output_norm, f"{name}.norm")

    def _gated(self, read: str, gate: LinearWeights, inner: LinearWeights, activation: str, name: str) -> str:
        """Add `activation(x gate) * (x inner)`, from one matmul if the form packs those of a sublayer."""
        graph, names = self.graph, [f"{name}.gate", f"{name}.in"]
        if self.form.qkv == "packed":
            opened, value = packed(graph, (gate, inner), read, names, f"{name}.in.packed")
        else:
            opened, value = graph.linear(read, gate, names[0]), graph.linear(read, inner, names[1])
        return graph.node("Mul", [add_activation(graph, opened, activation, f"{name}.act"), value], f"{name}.gated")

    @property
    def _has_positions(self) -> bool:
        """Whether attention depends on the positions of tokens, and not only on what the embeddings made of them."""
        rotary = family_of(self.model.config.model_type).rotary
        return rotary or self.weights.position_bias is not None or has_position_terms(self.model)

    def _mask(self, block: LayerWeights, first_only: bool, form: GraphForm) -> str:
        """Return what is added to the scores of a layer: for padding, and relative positions or a window if it has them."""
        graph, by_distance = self.graph, self.weights.position_bias
        relative = by_distance is not None or block.kind == SLIDING or has_position_terms(self.model)
        mask = attention_mask_bias(graph, form, relative)
        if by_distance is not None:
            return position_bias(graph, by_distance, block.bias_heads, mask, first_only)
        window = self._window(block)
        if window is None:
            return mask
        in_blocks = form.attention == "blocks" and not first_only
        return block_mask(graph, window) if in_blocks else window_mask(graph, window, mask, first_only)

    def _window(self, block: LayerWeights) -> int | None:
        """Return the largest distance that a layer sees; None if it sees the whole text."""
        return self.model.config.sliding_window if block.kind == SLIDING else None

    def _parts(self, block: LayerWeights) -> Parts | None:
        """Return how the form `blocks` computes a layer's attention."""
        if self.form.attention != "blocks":
            return None
        return Parts(self._window(block), heads_at_once(self.model.config.max_position_embeddings))

    @cached_property
    def _distance_rows(self) -> DistanceRows:
        return DistanceRows.of(self.model)

    def _position_terms(self, block: LayerWeights) -> PositionTerms | None:
        """Return the terms of relative positions in the scores of a layer with disentangled attention."""
        if not has_position_terms(self.model):
            return None
        scale = (score_parts(self.model) * self.shape.head_size) ** -0.5
        folded = self.form.scale == "folded"
        return PositionTerms(*block.position_tables, self._distance_rows, scale if folded else 1.0, 1.0 if folded else scale)

    def _shifted(self, residual: str, bias: np.ndarray | None, name: str) -> str:
        """Add the bias of an output projection to the residual, if it is not folded into a norm."""
        if bias is None:
            return residual
        return self.graph.add(residual, self.graph.constant(bias.astype(np.float32), f"{name}.shift"), f"{name}.shifted")


def _ends(graph: GraphBuilder, logits: str) -> dict[str, GraphOutput]:
    """Split (batch, sequence, 2) into the logits of a span's first and last token, (batch, sequence) each."""
    axis = graph.integers([2], "axis.2")
    outputs: dict[str, GraphOutput] = {}
    for position, name in enumerate(("start", "end")):
        begin, end = graph.integers([position], f"{name}.from"), graph.integers([position + 1], f"{name}.to")
        part = graph.node("Slice", [logits, begin, end, axis], f"{name}.slice")
        outputs[f"{name}_logits"] = (graph.node("Squeeze", [part, axis], f"{name}.values"), ["batch", "sequence"])
    return outputs


def _finish(graph: GraphBuilder, rows: str, factors: Factors, adapter: AdapterWeights | None, residual: str, name: str) -> str:
    """Add an output projection, with its adapter if it has one, to the residual, which contains the last bias already."""
    if adapter is None:
        return graph.gemm(rows, factors, residual, name)
    projected = graph.linear(rows, LinearWeights(factors, adapter.bias), name)
    inner = add_activation(graph, graph.linear(projected, adapter.down, f"{name}.adapter.down"), "gelu", f"{name}.adapter.gelu")
    return graph.gemm(inner, adapter.up, graph.add(projected, residual, f"{name}.residual"), f"{name}.adapter.up")


def _embeddings(graph: RowGraph, model: TransformersModel, weights: EncoderWeights, first_only: bool) -> str:
    """Sum word, position and type embeddings and normalise: (batch * sequence, hidden), or (batch, hidden) of first tokens."""
    family = family_of(model.config.model_type)
    embeddings = find_submodule(model, f"{family.encoder}.embeddings")  # None if there is the table alone
    words, bias = _words(graph, word_embeddings(model))
    if find_submodule(embeddings, "position_embeddings") is None:
        total = graph.add(words, graph.constant(np.asarray(bias), "embeddings.bias"), "embeddings.shifted") if np.any(bias) else words
    else:
        total = graph.add(words, _positions(graph, model, embeddings, bias), "embeddings.words_positions")
    if family.token_types:
        table = graph.constant(array_of(embeddings.token_type_embeddings.weight), "embeddings.type")
        total = graph.add(total, graph.node("Gather", [table, "token_type_ids"], "embeddings.types"), "embeddings.sum")
    if first_only:
        rows = graph.first_of(total, "embeddings.first")
    else:
        width = word_embeddings(model).embedding_dim
        rows = graph.node("Reshape", [total, graph.integers([-1, width], "shape.rows")], "embeddings.rows")
    hidden = rows if weights.norm is None else graph.layer_norm(rows, weights.norm, "embeddings.norm")
    return hidden if weights.project is None else graph.linear(hidden, weights.project, "embeddings.project")


def _positions(graph: GraphBuilder, model: TransformersModel, embeddings: Any, bias: np.ndarray | np.float32) -> str:
    """Look up the position embeddings, with a bias added to each of them: (sequence, width), or (batch, sequence, width)."""
    if (tasks := find_submodule(embeddings, "task_type_embeddings")) is not None:
        bias = bias + array_of(tasks.weight)[0]  # ERNIE's, of the first task
    table = graph.constant(array_of(embeddings.position_embeddings.weight) + bias, "embeddings.position")
    if family_of(model.config.model_type).positions_after_padding:
        return graph.node("Gather", [table, _roberta_positions(graph, embeddings.padding_idx)], "embeddings.positions")
    length = graph.node("Shape", ["input_ids"], "length", start=1, end=2)
    zero, axis = graph.integers([0], "zero"), graph.integers([0], "axis.0")
    return graph.node("Slice", [table, zero, length, axis], "embeddings.positions")


def _words(graph: GraphBuilder, module: nn.Embedding | FactoredEmbedding) -> tuple[str, np.ndarray | np.float32]:
    """Look up the word embeddings: (batch, sequence, width), and a bias to add to each of them."""
    factored = isinstance(module, FactoredEmbedding)
    table = graph.constant(array_of(module.table.weight if factored else module.weight), "embeddings.word")
    words = graph.node("Gather", [table, "input_ids"], "embeddings.words")
    if not factored:
        return words, np.float32(0)
    project = graph.constant(array_of(module.project.weight).T, "embeddings.words.project.weight")
    return graph.node("MatMul", [words, project], "embeddings.words.project"), array_of(module.project.bias)


def _roberta_positions(graph: GraphBuilder, pad: int) -> str:
    """Number the tokens that are not padding from pad + 1 on; padding keeps the padding id."""
    padding = graph.integers([pad], "padding_id")
    is_pad = graph.node("Equal", ["input_ids", padding], "is_padding")
    real = graph.node("Cast", [graph.node("Not", [is_pad], "is_real")], "real", to=onnx.TensorProto.INT64)
    counted = graph.node("CumSum", [real, graph.constant(np.array(1, dtype=np.int64), "axis.sequence")], "count")
    return graph.add(graph.node("Mul", [counted, real], "count.real"), padding, "position_ids")
