"""The heads of classifiers in a graph, by the names that `Family.head` has, and the linears and activations that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from compress.core.errors import ModelError
from compress.export.builder import GraphBuilder, RowGraph
from compress.export.pooling import pooled_rows
from compress.export.weights import LinearWeights, NormWeights
from compress.models.family import family_of
from compress.models.layers import ACTIVATIONS, GELU, PLAIN_ACTIVATIONS, SWISH, find_submodule, pools_logits, reads_every_token
from compress.models.low_rank import FactoredLinear
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    from torch import nn


def add_linear(graph: GraphBuilder, value: str, linear: nn.Linear | FactoredLinear, name: str) -> str:
    """Apply a linear of PyTorch, or a factorized one, to rows."""
    return graph.linear(value, LinearWeights.of(linear), name)


def add_activation(graph: GraphBuilder, value: str, kind: str, name: str) -> str:
    """Apply an activation function, by its name in transformers.

    Raises:
        ModelError: it is not supported.
    """
    if kind in GELU:
        return graph.gelu(value, name, GELU[kind])
    if kind in PLAIN_ACTIVATIONS:
        return graph.node(PLAIN_ACTIVATIONS[kind], [value], name)
    if kind in SWISH:
        return graph.node("Mul", [value, graph.node("Sigmoid", [value], f"{name}.sigmoid")], name)
    raise ModelError(f"the activation '{kind}' cannot be exported", f"supported: {', '.join(sorted(ACTIVATIONS))}")


def _two_linears(
    graph: GraphBuilder,
    rows: str,
    linears: tuple[nn.Linear | FactoredLinear, nn.Linear | FactoredLinear],
    activation: str,
    names: tuple[str, str, str],
) -> str:
    """Apply a linear, an activation and a last linear; `names` are those of the three nodes."""
    inner = add_activation(graph, add_linear(graph, rows, linears[0], names[0]), activation, names[1])
    return add_linear(graph, inner, linears[1], names[2])


def _pooler_head(graph: GraphBuilder, model: TransformersModel, first: str, pooler: str) -> str:
    """Add the encoder's pooler, the module at a path in the encoder, and the classifier."""
    linears = find_submodule(model, f"{family_of(model.config.model_type).encoder}.{pooler}"), find_submodule(model, "classifier")
    return _two_linears(graph, first, linears, "tanh", ("pooler", "pooler.tanh", "classifier"))


def _bert_head(graph: GraphBuilder, model: TransformersModel, first: str) -> str:
    return _pooler_head(graph, model, first, "pooler.dense")


def _albert_head(graph: GraphBuilder, model: TransformersModel, first: str) -> str:
    return _pooler_head(graph, model, first, "pooler")


def _dense_head(graph: GraphBuilder, model: TransformersModel, first: str, activation: str) -> str:
    """Add the two linears of a module `classifier`."""
    linears = find_submodule(model, "classifier.dense"), find_submodule(model, "classifier.out_proj")
    return _two_linears(graph, first, linears, activation, ("classifier.dense", f"classifier.{activation}", "classifier.out"))


def _roberta_head(graph: GraphBuilder, model: TransformersModel, first: str) -> str:
    return _dense_head(graph, model, first, "tanh")


def _electra_head(graph: GraphBuilder, model: TransformersModel, first: str) -> str:
    return _dense_head(graph, model, first, "gelu")


def _distilbert_head(graph: GraphBuilder, model: TransformersModel, first: str) -> str:
    linears = find_submodule(model, "pre_classifier"), find_submodule(model, "classifier")
    return _two_linears(graph, first, linears, "relu", ("pre_classifier", "pre_classifier.relu", "classifier"))


def _deberta_head(graph: GraphBuilder, model: TransformersModel, first: str) -> str:
    linears = find_submodule(model, "pooler.dense"), find_submodule(model, "classifier")
    return _two_linears(graph, first, linears, model.config.pooler_hidden_act, ("pooler", "pooler.act", "classifier"))


def modernbert_transform(graph: GraphBuilder, model: TransformersModel, rows: str) -> str:
    """Add the head's hidden layer: linear, activation, norm."""
    head = find_submodule(model, "head")
    inner = add_activation(graph, add_linear(graph, rows, head.dense, "head.dense"), model.config.classifier_activation, "head.act")
    return graph.layer_norm(inner, NormWeights.of(head.norm), "head.norm")


def _modernbert_head(graph: RowGraph, model: TransformersModel, rows: str) -> str:
    if reads_every_token(model.config):
        rows = pooled_rows(graph, graph.shaped(rows, [model_shape(model).hidden], "pooling.states"), "mean")
    return add_linear(graph, modernbert_transform(graph, model, rows), find_submodule(model, "classifier"), "classifier")


def _eurobert_head(graph: RowGraph, model: TransformersModel, rows: str) -> str:
    if reads_every_token(model.config) and not pools_logits(model.config):
        rows = pooled_rows(graph, graph.shaped(rows, [model_shape(model).hidden], "pooling.states"), "mean")
    inner = add_activation(graph, add_linear(graph, rows, find_submodule(model, "dense"), "dense"), "gelu", "dense.gelu")
    if pools_logits(model.config):  # the last linear and the mean change places: a row for each text, not for each token
        inner = pooled_rows(graph, graph.shaped(inner, [find_submodule(model, "dense").out_features], "pooling.states"), "mean")
    return add_linear(graph, inner, find_submodule(model, "classifier"), "classifier")


def _plain_head(graph: GraphBuilder, model: TransformersModel, read: str) -> str:
    return add_linear(graph, read, find_submodule(model, "classifier"), "classifier")


HEADS: dict[str, Callable[[RowGraph, TransformersModel, str], str]] = {  # by `Family.head`
    "bert": _bert_head,
    "roberta": _roberta_head,
    "electra": _electra_head,
    "distilbert": _distilbert_head,
    "modernbert": _modernbert_head,
    "deberta": _deberta_head,
    "albert": _albert_head,
    "eurobert": _eurobert_head,
    "plain": _plain_head,
}
