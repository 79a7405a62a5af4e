"""Author the ONNX graph of a model directly from its weights, exact for every shape.

Different heads in every layer, layers without heads or FFN, scores scaled by the query weights. A classifier of texts
reads the first token only: from the last layer that mixes tokens on, no other is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from compress.errors import ModelError
from compress.export.builder import GraphBuilder
from compress.model.checkpoint import model_shape
from compress.model.family import TOKEN_HEADS, Layer, activation_name, descend, family_of, layers

MASKED = -10_000.0  # added to the scores of padding; its exponential is 0 in float32, and it fits float16
GELU = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
PLAIN_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh"}


def build_graph(model: Any) -> onnx.ModelProto:
    """Return the ONNX model: token ids (and types) and mask in, `logits` out (`start_logits`, `end_logits` of a span).

    Raises:
        ModelError: an activation or position scheme that the graph does not know.
    """
    graph = GraphBuilder()
    family = family_of(model.config.model_type)
    encoder = descend(model, family.encoder)
    inputs = ["input_ids", "attention_mask", *(["token_type_ids"] if family.token_types else [])]
    hidden = _embeddings(graph, model, encoder, family.token_types)
    bias = _mask_bias(graph)
    shape = model_shape(model)
    activation = activation_name(model)
    head = TOKEN_HEADS.get(type(model).__name__.removeprefix(family.prefix))
    mixing = [number for number, layer in enumerate(shape.layers) if layer.heads]
    last_mixing = (mixing[-1] if mixing else -1) if head is None else None
    if last_mixing == -1:
        hidden = _first_token(graph, hidden)
    for number, (layer, size) in enumerate(zip(layers(model), shape.layers, strict=True)):
        name = f"layer.{number}"
        queries = _first_token(graph, hidden) if number == last_mixing else hidden
        context = _attention(graph, layer, hidden, queries, bias, size.heads, shape.head_size, f"{name}.attention")
        hidden = _finish(graph, context, layer.attention_output, layer.attention_norm, queries, f"{name}.attention")
        inner = (
            _activation(graph, _linear(graph, hidden, layer.ffn_in, f"{name}.ffn.in"), activation, f"{name}.ffn.act") if size.ffn else None
        )
        hidden = _finish(graph, inner, layer.ffn_out, layer.output_norm, hidden, f"{name}.ffn")
    if head is not None:
        logits = _linear(graph, hidden, descend(model, head), head)
        if head == TOKEN_HEADS["ForQuestionAnswering"]:
            return graph.model(inputs, _ends(graph, logits))
        return graph.model(inputs, {"logits": (logits, ["batch", "sequence", model.config.num_labels])})
    first = graph.node("Squeeze", [hidden, graph.integers([1], "axis.1")], "first_token")
    return graph.model(inputs, {"logits": (HEADS[family.model_type](graph, model, first), ["batch", model.config.num_labels])})


def _ends(graph: GraphBuilder, logits: str) -> dict[str, tuple[str, list[str | int]]]:
    """Split (batch, sequence, 2) into the logits of a span's first and last token, (batch, sequence) each."""
    axis = graph.integers([2], "axis.2")
    outputs: dict[str, tuple[str, list[str | int]]] = {}
    for position, name in enumerate(("start", "end")):
        begin, end = graph.integers([position], f"{name}.from"), graph.integers([position + 1], f"{name}.to")
        part = graph.node("Slice", [logits, begin, end, axis], f"{name}.slice")
        outputs[f"{name}_logits"] = (graph.node("Squeeze", [part, axis], f"{name}.values"), ["batch", "sequence"])
    return outputs


def _array(parameter: Any) -> np.ndarray:
    return parameter.detach().numpy()


def _linear(graph: GraphBuilder, value: str, linear: Any, name: str) -> str:
    return graph.linear(value, _array(linear.weight), _array(linear.bias), name)


def _activation(graph: GraphBuilder, value: str, kind: str, name: str) -> str:
    if kind in GELU:
        return graph.node("Gelu", [value], name, approximate=GELU[kind])
    if kind in PLAIN_ACTIVATIONS:
        return graph.node(PLAIN_ACTIVATIONS[kind], [value], name)
    raise ModelError(f"the activation '{kind}' cannot be exported", f"supported: {', '.join([*GELU, *PLAIN_ACTIVATIONS])}")


def _embeddings(graph: GraphBuilder, model: Any, encoder: Any, token_types: bool) -> str:
    """Sum word, position and type embeddings and normalise: (batch, sequence, hidden)."""
    embeddings, config = encoder.embeddings, model.config
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        raise ModelError(f"position embeddings of type '{config.position_embedding_type}' cannot be exported", "supported: absolute")
    words = graph.node(
        "Gather", [graph.constant(_array(embeddings.word_embeddings.weight), "embeddings.word"), "input_ids"], "embeddings.words"
    )
    table = graph.constant(_array(embeddings.position_embeddings.weight), "embeddings.position")
    if family_of(config.model_type).positions_after_padding:
        positions = graph.node("Gather", [table, _roberta_positions(graph, config.pad_token_id)], "embeddings.positions")
    else:
        length = graph.node("Shape", ["input_ids"], "length", start=1, end=2)
        zero, axis = graph.integers([0], "zero"), graph.integers([0], "axis.0")
        positions = graph.node("Slice", [table, zero, length, axis], "embeddings.positions")
    total = graph.add(words, positions, "embeddings.words_positions")
    if token_types:
        table = graph.constant(_array(embeddings.token_type_embeddings.weight), "embeddings.type")
        total = graph.add(total, graph.node("Gather", [table, "token_type_ids"], "embeddings.types"), "embeddings.sum")
    hidden = graph.layer_norm(total, embeddings.LayerNorm, "embeddings.norm")
    project = getattr(encoder, "embeddings_project", None)
    return _linear(graph, hidden, project, "embeddings.project") if project is not None else hidden


def _roberta_positions(graph: GraphBuilder, pad: int) -> str:
    """Number the tokens that are not padding from pad + 1 on; padding keeps the padding id."""
    padding = graph.integers([pad], "padding_id")
    is_pad = graph.node("Equal", ["input_ids", padding], "is_padding")
    real = graph.node("Cast", [graph.node("Not", [is_pad], "is_real")], "real", to=onnx.TensorProto.INT64)
    counted = graph.node("CumSum", [real, graph.constant(np.array(1, dtype=np.int64), "axis.sequence")], "count")
    return graph.add(graph.node("Mul", [counted, real], "count.real"), padding, "position_ids")


def _mask_bias(graph: GraphBuilder) -> str:
    """Turn the mask into what is added to the scores: 0 for tokens, a large negative number for padding, (b, 1, 1, s)."""
    mask = graph.node("Cast", ["attention_mask"], "mask.float", to=onnx.TensorProto.FLOAT)
    absent = graph.node("Sub", [graph.constant(np.array(1.0, dtype=np.float32), "one"), mask], "mask.absent")
    bias = graph.node("Mul", [absent, graph.constant(np.array(MASKED, dtype=np.float32), "masked")], "mask.scaled")
    return graph.node("Unsqueeze", [bias, graph.integers([1, 2], "axes.1.2")], "mask.bias")


def _first_token(graph: GraphBuilder, hidden: str) -> str:
    """Keep the first token: (batch, sequence, hidden) -> (batch, 1, hidden)."""
    start, end, axis = graph.integers([0], "zero"), graph.integers([1], "one.int"), graph.integers([1], "axis.1")
    return graph.node("Slice", [hidden, start, end, axis], f"{hidden}.first")


def _attention(graph: GraphBuilder, layer: Layer, hidden: str, queries: str, bias: str, heads: int, size: int, name: str) -> str | None:
    """Mix tokens: softmax(Q K' + bias) V of every head, (batch, queries, heads * size), or None without heads."""
    if not heads or layer.query is None or layer.key is None or layer.value is None:
        return None
    split = graph.integers([0, -1, heads, size], f"split.{heads}")
    merge = graph.integers([0, -1, heads * size], f"merge.{heads}")

    def per_head(value: str, linear: Any, part: str, order: list[int], scale: float = 1.0) -> str:
        projected = graph.linear(
            value, _array(linear.weight) * np.float32(scale), _array(linear.bias) * np.float32(scale), f"{name}.{part}"
        )
        divided = graph.node("Reshape", [projected, split], f"{name}.{part}.split")
        return graph.node("Transpose", [divided], f"{name}.{part}.heads", perm=order)

    query = per_head(queries, layer.query, "query", [0, 2, 1, 3], scale=size**-0.5)
    key = per_head(hidden, layer.key, "key", [0, 2, 3, 1])
    value = per_head(hidden, layer.value, "value", [0, 2, 1, 3])
    scores = graph.add(graph.node("MatMul", [query, key], f"{name}.scores"), bias, f"{name}.scores.masked")
    weights = graph.node("Softmax", [scores], f"{name}.weights", axis=-1)
    mixed = graph.node("MatMul", [weights, value], f"{name}.mixed")
    together = graph.node("Transpose", [mixed], f"{name}.mixed.tokens", perm=[0, 2, 1, 3])
    return graph.node("Reshape", [together, merge], f"{name}.context")


def _finish(graph: GraphBuilder, inner: str | None, linear: Any, norm: Any, residual: str, name: str) -> str:
    """Project, add the residual and normalise; a sublayer that is gone still adds its bias."""
    projected = _linear(graph, inner, linear, f"{name}.out") if inner else graph.constant(_array(linear.bias), f"{name}.out.bias")
    return graph.layer_norm(graph.add(projected, residual, f"{name}.residual"), norm, f"{name}.norm")


def _bert_head(graph: GraphBuilder, model: Any, first: str) -> str:
    pooled = _activation(graph, _linear(graph, first, model.bert.pooler.dense, "pooler"), "tanh", "pooler.tanh")
    return _linear(graph, pooled, model.classifier, "classifier")


def _roberta_head(graph: GraphBuilder, model: Any, first: str) -> str:
    inner = _activation(graph, _linear(graph, first, model.classifier.dense, "classifier.dense"), "tanh", "classifier.tanh")
    return _linear(graph, inner, model.classifier.out_proj, "classifier.out")


def _electra_head(graph: GraphBuilder, model: Any, first: str) -> str:
    inner = _activation(graph, _linear(graph, first, model.classifier.dense, "classifier.dense"), "gelu", "classifier.gelu")
    return _linear(graph, inner, model.classifier.out_proj, "classifier.out")


def _distilbert_head(graph: GraphBuilder, model: Any, first: str) -> str:
    inner = _activation(graph, _linear(graph, first, model.pre_classifier, "pre_classifier"), "relu", "pre_classifier.relu")
    return _linear(graph, inner, model.classifier, "classifier")


HEADS: dict[str, Callable[[GraphBuilder, Any, str], str]] = {
    "bert": _bert_head,
    "roberta": _roberta_head,
    "xlm-roberta": _roberta_head,
    "electra": _electra_head,
    "distilbert": _distilbert_head,
}
