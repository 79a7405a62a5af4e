"""Write the ONNX graph of a model directly from its weights, exact for every shape.

Layers may have different numbers of heads, or no heads or FFN. Tokens are rows of one matrix, so every projection with its bias,
or with the residual that it is added to, is one Gemm. A text classifier reads the first token only: from the last layer with
attention on, no other token is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import onnx

from compress.core.errors import ModelError
from compress.export.attention import PLAIN, GraphForm, attention, attention_mask_bias
from compress.export.builder import GraphBuilder, Output, RowGraph
from compress.export.pooling import sentence_vectors
from compress.export.positions import position_bias
from compress.export.recurrent import lstm_rows
from compress.export.static_model import static_rows
from compress.export.weights import AdapterWeights, EncoderWeights, Factors, LinearWeights, array_of, encoder_weights
from compress.inference.onnx_session import STATES, VECTOR
from compress.models.embedder import head_of, is_embedder_model, vector_size
from compress.models.family import BILSTM, STATIC, TOKEN_HEADS, family_of
from compress.models.layers import ACTIVATIONS, GELU, PLAIN_ACTIVATIONS, SWISH, activation_name, find_submodule
from compress.models.low_rank import FactoredEmbedding, FactoredLinear
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    from torch import nn


def build_graph(model: TransformersModel, form: GraphForm = PLAIN) -> onnx.ModelProto:
    """Return the ONNX model: token ids (and types) and mask in, `logits` out (`start_logits`, `end_logits` of a span).

    An embedder's outputs are `sentence_embedding`, its vectors, pooled with the mask; and `last_hidden_state`, the vectors of all
    tokens, unless its pooling reads the first token only.

    Args:
        model: in evaluation mode, of any shape.
        form: of the graph; every form computes the same.

    Raises:
        ModelError: the activation or the position scheme is not supported.
    """
    family, graph = family_of(model.config.model_type), RowGraph(form.opset)
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if family.token_types else [])]
    if is_embedder_model(model):
        every_token = form.token_embeddings or not head_of(model.config).first_token_only
        read = _encoder(graph, model, form, every_token)
        hidden = getattr(model.config, family.hidden_key)
        if every_token:
            read = graph.shaped(read, [hidden], "tokens")
        outputs: dict[str, Output] = {VECTOR: (sentence_vectors(graph, model, read, every_token), ["batch", vector_size(model)])}
        if every_token:
            outputs[STATES] = (read, ["batch", "sequence", hidden])
        return graph.model(inputs, outputs)
    head = TOKEN_HEADS.get(type(model).__name__.removeprefix(family.prefix))
    every_token = head is not None
    labels = len(model.config.id2label or {})
    if family is STATIC:
        hidden = static_rows(graph, model)
    elif family is BILSTM:
        hidden = lstm_rows(graph, model, every_token)
    else:
        hidden = _encoder(graph, model, form, every_token)
    if head is None:
        return graph.model(inputs, {"logits": (HEADS[family.head](graph, model, hidden), ["batch", labels])})
    rows = _linear(graph, hidden, find_submodule(model, head), head)
    logits = graph.shaped(rows, [labels], f"{head}.tokens")
    if head == TOKEN_HEADS["ForQuestionAnswering"]:
        return graph.model(inputs, _ends(graph, logits))
    return graph.model(inputs, {"logits": (logits, ["batch", "sequence", labels])})


def _encoder(graph: RowGraph, model: TransformersModel, form: GraphForm, every_token: bool) -> str:
    """Add embeddings and layers; returns (batch, hidden) of first tokens, or (batch * sequence, hidden) of every token."""
    shape, activation = model_shape(model), activation_name(model)
    weights = encoder_weights(model, fold_scale=form.scale == "folded")
    mixing = [number for number, layer in enumerate(shape.layers) if layer.heads]
    last_mixing = None if every_token else mixing[-1] if mixing else -1
    hidden = _embeddings(graph, model, weights, first_only=last_mixing == -1)
    mask = attention_mask_bias(graph, form, weights.position_bias is not None) if mixing else ""
    for number, (block, size) in enumerate(zip(weights.blocks, shape.layers, strict=True)):
        name = f"layer.{number}"
        residual = hidden
        if block.projections is not None:
            if number == last_mixing:
                residual = graph.first_token(hidden, shape.hidden, f"{name}.first")
            layer_mask = mask
            if weights.position_bias is not None:
                layer_mask = position_bias(graph, weights.position_bias, block.bias_heads, mask, number == last_mixing)
            context = attention(
                graph, block.projections, (residual, hidden), layer_mask, size.heads, shape.head_size, f"{name}.attention", form
            )
            residual = _finish(graph, context, block.mixed, block.mixed_adapter, residual, f"{name}.attention.out")
        hidden = graph.layer_norm(residual, block.attention_norm, f"{name}.attention.norm")
        residual = hidden
        if block.inner is not None:
            inner = _activation(graph, graph.linear(hidden, block.inner, f"{name}.ffn.in"), activation, f"{name}.ffn.act")
            residual = _finish(graph, inner, block.outer, block.outer_adapter, hidden, f"{name}.ffn.out")
        hidden = graph.layer_norm(residual, block.output_norm, f"{name}.ffn.norm")
    return hidden


def _ends(graph: GraphBuilder, logits: str) -> dict[str, Output]:
    """Split (batch, sequence, 2) into the logits of a span's first and last token, (batch, sequence) each."""
    axis = graph.integers([2], "axis.2")
    outputs: dict[str, Output] = {}
    for position, name in enumerate(("start", "end")):
        begin, end = graph.integers([position], f"{name}.from"), graph.integers([position + 1], f"{name}.to")
        part = graph.node("Slice", [logits, begin, end, axis], f"{name}.slice")
        outputs[f"{name}_logits"] = (graph.node("Squeeze", [part, axis], f"{name}.values"), ["batch", "sequence"])
    return outputs


def _linear(graph: GraphBuilder, value: str, linear: nn.Linear | FactoredLinear, name: str) -> str:
    return graph.linear(value, LinearWeights.of(linear), name)


def _activation(graph: GraphBuilder, value: str, kind: str, name: str) -> str:
    if kind in GELU:
        return graph.gelu(value, name, GELU[kind])
    if kind in PLAIN_ACTIVATIONS:
        return graph.node(PLAIN_ACTIVATIONS[kind], [value], name)
    if kind in SWISH:
        return graph.node("Mul", [value, graph.node("Sigmoid", [value], f"{name}.sigmoid")], name)
    raise ModelError(f"the activation '{kind}' cannot be exported", f"supported: {', '.join(sorted(ACTIVATIONS))}")


def _finish(graph: GraphBuilder, rows: str, factors: Factors, adapter: AdapterWeights | None, residual: str, name: str) -> str:
    """Add an output projection, with its adapter if it has one, to the residual, which contains the last bias already."""
    if adapter is None:
        return graph.gemm(rows, factors, residual, name)
    projected = graph.linear(rows, LinearWeights(factors, adapter.bias), name)
    inner = _activation(graph, graph.linear(projected, adapter.down, f"{name}.adapter.down"), "gelu", f"{name}.adapter.gelu")
    return graph.gemm(inner, adapter.up, graph.add(projected, residual, f"{name}.residual"), f"{name}.adapter.up")


def _embeddings(graph: RowGraph, model: TransformersModel, weights: EncoderWeights, first_only: bool) -> str:
    """Sum word, position and type embeddings and normalise: (batch * sequence, hidden), or (batch, hidden) of first tokens."""
    family = family_of(model.config.model_type)
    embeddings = find_submodule(model, family.encoder).embeddings
    words, bias = _words(graph, embeddings.word_embeddings)
    if (tasks := find_submodule(embeddings, "task_type_embeddings")) is not None:
        bias = bias + array_of(tasks.weight)[0]  # ERNIE's, of the first task
    table = graph.constant(array_of(embeddings.position_embeddings.weight) + bias, "embeddings.position")
    if family.positions_after_padding:
        positions = graph.node("Gather", [table, _roberta_positions(graph, embeddings.padding_idx)], "embeddings.positions")
    else:
        length = graph.node("Shape", ["input_ids"], "length", start=1, end=2)
        zero, axis = graph.integers([0], "zero"), graph.integers([0], "axis.0")
        positions = graph.node("Slice", [table, zero, length, axis], "embeddings.positions")
    total = graph.add(words, positions, "embeddings.words_positions")
    if family.token_types:
        table = graph.constant(array_of(embeddings.token_type_embeddings.weight), "embeddings.type")
        total = graph.add(total, graph.node("Gather", [table, "token_type_ids"], "embeddings.types"), "embeddings.sum")
    if first_only:
        rows = graph.first_of(total, "embeddings.first")
    else:
        rows = graph.node("Reshape", [total, graph.integers([-1, len(weights.norm.bias)], "shape.rows")], "embeddings.rows")
    hidden = graph.layer_norm(rows, weights.norm, "embeddings.norm")
    return hidden if weights.project is None else graph.linear(hidden, weights.project, "embeddings.project")


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


def _bert_head(graph: GraphBuilder, model: TransformersModel, first: str) -> str:
    pooler = find_submodule(model, f"{family_of(model.config.model_type).encoder}.pooler.dense")
    pooled = _activation(graph, _linear(graph, first, pooler, "pooler"), "tanh", "pooler.tanh")
    return _linear(graph, pooled, find_submodule(model, "classifier"), "classifier")


def _roberta_head(graph: GraphBuilder, model: TransformersModel, first: str) -> str:
    inner = _activation(
        graph, _linear(graph, first, find_submodule(model, "classifier.dense"), "classifier.dense"), "tanh", "classifier.tanh"
    )
    return _linear(graph, inner, find_submodule(model, "classifier.out_proj"), "classifier.out")


def _electra_head(graph: GraphBuilder, model: TransformersModel, first: str) -> str:
    inner = _activation(
        graph, _linear(graph, first, find_submodule(model, "classifier.dense"), "classifier.dense"), "gelu", "classifier.gelu"
    )
    return _linear(graph, inner, find_submodule(model, "classifier.out_proj"), "classifier.out")


def _distilbert_head(graph: GraphBuilder, model: TransformersModel, first: str) -> str:
    inner = _activation(
        graph, _linear(graph, first, find_submodule(model, "pre_classifier"), "pre_classifier"), "relu", "pre_classifier.relu"
    )
    return _linear(graph, inner, find_submodule(model, "classifier"), "classifier")


def _plain_head(graph: GraphBuilder, model: TransformersModel, read: str) -> str:
    return _linear(graph, read, find_submodule(model, "classifier"), "classifier")


HEADS: dict[str, Callable[[GraphBuilder, TransformersModel, str], str]] = {  # by `Family.head`
    "bert": _bert_head,
    "roberta": _roberta_head,
    "electra": _electra_head,
    "distilbert": _distilbert_head,
    "plain": _plain_head,
}
