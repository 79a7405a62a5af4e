"""The linears of a model by the names that their matmuls have in its graph, and what the graph adds to their inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from compress.models.embedder import head_of, is_embedder_model
from compress.models.family import TOKEN_HEADS, family_of
from compress.models.layers import Layer, encoder_layers, pools_logits, reads_every_token
from compress.models.low_rank import FactoredLinear
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel

PARTS = {  # names in the graph by role
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "attention_output": "attention.out",
    "ffn_in": "ffn.in",
    "ffn_gate": "ffn.gate",
    "ffn_out": "ffn.out",
}
FIRST = {  # what the first linears of a sublayer read, and the output projection whose bias is folded into it
    **dict.fromkeys(("query", "key", "value"), ("attention.in", "attention_output")),
    **dict.fromkeys(("ffn_in", "ffn_gate"), ("ffn.in", "ffn_out")),
}
HEAD_NAMES = {  # names in the graph of linears of heads, where they are not those of the modules
    "pooler.dense": "pooler",
    "classifier.out_proj": "classifier.out",
}


@dataclass(frozen=True)
class NamedLinear:
    """A linear of a model.

    Attributes:
        path: of the module.
        value: names what it reads: linears with equal names read the same values.
        added: path of the module whose bias the graph has added to these values; empty for none.
        removed: paths of that module, and of linears that the sum has gone through: their effect is subtracted from the own bias.
        first_only: the graph computes it for the first token of each text only.
        adds_bias: its matmul adds its bias; that of an output projection is in the residual.
    """

    path: str
    value: str
    added: str = ""
    removed: tuple[str, ...] = ()
    first_only: bool = False
    adds_bias: bool = False


def computes_every_token(model: TransformersModel) -> bool:
    """Return whether a graph computes all tokens in the last layers: its outputs, or what they are pooled from, need them."""
    if is_embedder_model(model):
        return not head_of(model.config).first_token_only
    return _has_token_head(model) or reads_every_token(model.config)


def _has_token_head(model: TransformersModel) -> bool:
    """Return whether a model has logits for each token."""
    return type(model).__name__.removeprefix(family_of(model.config.model_type).prefix) in TOKEN_HEADS


def named_linears(model: TransformersModel) -> dict[str, NamedLinear]:
    """Return the linears of a model with transformer layers and without adapters by the names of their nodes in its graph.

    A last linear that the graph applies to the mean of the tokens, and the model to each of them (EuroBERT), is left out.
    """
    family, shape = family_of(model.config.model_type), model_shape(model)
    mixing = [number for number, size in enumerate(shape.layers) if size.heads]
    last = len(shape.layers) if computes_every_token(model) else mixing[-1] if mixing else -1
    linears: dict[str, NamedLinear] = {}
    layers = f"{family.encoder}.{family.layers}."
    for number, layer in enumerate(encoder_layers(model)):
        prefix = f"layer.{number}."
        for role, linear in _linears(layer):
            path, name = f"{layers}{number}.{getattr(family, role)}", prefix + PARTS[role]
            first_only = number > last or (number == last and role not in ("key", "value"))
            value, output = FIRST.get(role, (PARTS[role], ""))
            folded = output and not layer.norms_first
            by = _bias_path(f"{layers}{number}.{getattr(family, output)}", getattr(layer, output)) if folded else ""
            adds_bias = role in FIRST
            read = name if first_only and role == "query" else prefix + value
            if isinstance(linear, FactoredLinear):
                down = f"{path}.down"
                linears[f"{name}.down"] = NamedLinear(down, f"{read}.down", by, (), first_only)
                linears[name] = NamedLinear(f"{path}.up", f"{name}.up", "", (by, down) if by else (), first_only, adds_bias)
            else:
                linears[name] = NamedLinear(path, read, by, (by,) if by else (), first_only, adds_bias)
    pooled = pools_logits(model.config) and not _has_token_head(model) and not is_embedder_model(model)
    embeddings = {f"{family.word_embeddings}.project": "embeddings.words.project", family.embedding_projection: "embeddings.project"}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear) and not path.startswith(layers) and not (pooled and path == family.logits):
            inner = path.removeprefix(f"{family.encoder}.")
            name = embeddings.get(inner) or _name_of_head(inner)
            linears[name] = NamedLinear(path, name, adds_bias=name != "embeddings.words.project")
    return linears


def _linears(layer: Layer) -> Iterator[tuple[str, nn.Linear | FactoredLinear]]:
    """Yield the linears of a layer by role, without those of absent sublayers."""
    for role in PARTS:
        linear = getattr(layer, role)
        if linear is not None and linear.in_features and linear.out_features:
            yield role, linear


def _bias_path(path: str, linear: nn.Linear | FactoredLinear) -> str:
    """Return the path of the module that has the bias of the linear at a path."""
    return f"{path}.up" if isinstance(linear, FactoredLinear) else path


def _name_of_head(path: str) -> str:
    """Return the name in the graph of a linear of a head; `steps.0.linear` is an embedder's dense layer."""
    if path.startswith("steps."):
        return f"dense.{path.split('.')[1]}"
    return HEAD_NAMES.get(path, path)
