"""The shape of an encoder (heads and FFN neurons of each layer) and what it costs. No torch in this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.models.family import family_of
from compress.results import LayerDocument

CONFIG_KEY = "compress"  # in config.json, of models that differ from what the config says
ADAPTER_KEY = "adapter_size"  # within it, of models with adapters
RANKS_KEY = "ranks"  # within a layer of it, of factorized linears: role and rank
EMBEDDING_KEY = "embedding_rank"  # within it, of factorized word embeddings
SHARED_KEY = "shared"  # within it, where layers share weights: for each layer the first one that has its weights
VERSION = 1
ROLES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_out")  # a layer's linears, as in `compress.models.family`


@dataclass(frozen=True)
class LayerShape:
    """What is left of a layer; 0 heads or 0 FFN neurons leave the sublayer's bias and LayerNorm.

    `ranks` holds the roles of factorized linears with their ranks, in the order of `ROLES`.
    """

    heads: int
    ffn: int
    ranks: tuple[tuple[str, int], ...] = ()

    def as_json(self) -> LayerDocument:
        """Return `{"heads": h, "ffn": f}`, with `ranks` where a linear is factorized."""
        document: LayerDocument = {"heads": self.heads, "ffn": self.ffn}
        return {**document, "ranks": dict(self.ranks)} if self.ranks else document


@dataclass(frozen=True)
class Lstm:
    """A bidirectional LSTM: the width of its inputs, its units in each direction, and those of the hidden layer behind it."""

    embedding: int
    units: int
    ffn: int

    def flops(self, seq_len: int) -> int:
        """Multiply-adds times two: four gates of both directions for every token, the hidden layer once, as for the answer to a text."""
        return 16 * seq_len * self.units * (self.embedding + self.units) + 4 * self.units * self.ffn

    def params(self) -> int:
        """Weights and biases, of which PyTorch keeps two for each gate."""
        return 8 * self.units * (self.embedding + self.units + 2) + (2 * self.units + 1) * self.ffn


@dataclass(frozen=True)
class Shape:
    """The shape of an encoder: width, size of a head, and every layer.

    `embedding` is the rank and the width of factorized word embeddings. `shared` tells for each layer the first one whose
    weights it uses, where some are shared. `lstm` is what a BiLSTM has in the place of layers and heads.
    """

    hidden: int
    head_size: int
    layers: tuple[LayerShape, ...]
    embedding: tuple[int, int] | None = None
    shared: tuple[int, ...] = ()
    lstm: Lstm | None = None

    def flops(self, seq_len: int) -> int:
        """Multiply-adds times two, of the layers' matrix products, for one sequence of `seq_len` tokens.

        The projection of factorized word embeddings is a product more.
        """
        if self.lstm is not None:
            return self.lstm.flops(seq_len)
        projection = 2 * seq_len * self.embedding[0] * self.embedding[1] if self.embedding else 0
        return projection + sum(
            layer.heads * head_flops(self.hidden, self.head_size, seq_len)
            + layer.ffn * neuron_flops(self.hidden, seq_len)
            + 2 * seq_len * self._more_weights(layer)
            for layer in self.layers
        )

    def params(self) -> int:
        """Weights and biases of the layers' linears, shared ones once (embeddings, LayerNorms and classifier aside).

        The projection of factorized word embeddings counts, their table does not.
        """
        if self.lstm is not None:
            return self.lstm.params()
        per_head, per_neuron = head_params(self.hidden, self.head_size), neuron_params(self.hidden)
        projection = (self.embedding[0] + 1) * self.embedding[1] if self.embedding else 0
        return projection + sum(
            layer.heads * per_head + layer.ffn * per_neuron + 2 * self.hidden + self._more_weights(layer)
            for number, layer in enumerate(self.layers)
            if not self.shared or self.shared[number] == number
        )

    def linear_sizes(self, layer: LayerShape) -> dict[str, tuple[int, int]]:
        """Return inputs and outputs of a layer's linears by role."""
        width = layer.heads * self.head_size
        into, back = (self.hidden, width), (width, self.hidden)
        ffn_in, ffn_out = (self.hidden, layer.ffn), (layer.ffn, self.hidden)
        return dict(zip(ROLES, (into, into, into, back, ffn_in, ffn_out), strict=True))

    def _more_weights(self, layer: LayerShape) -> int:
        """Return by how many weights a layer's factors are more than its linears would have whole (less than 0: fewer)."""
        sizes = self.linear_sizes(layer)
        return sum(factor_weights(*sizes[role], rank) - sizes[role][0] * sizes[role][1] for role, rank in layer.ranks)

    def as_json(self) -> list[LayerDocument]:
        """Return the layers as `[{"heads": h, "ffn": f}, …]`, with `ranks` where linears are factorized."""
        return [layer.as_json() for layer in self.layers]


def factor_weights(in_features: int, out_features: int, rank: int) -> int:
    """Weights of a linear's two factors, its bias aside."""
    return rank * (in_features + out_features)


def head_flops(hidden: int, head_size: int, seq_len: int) -> int:
    """FLOPs of one head: its slices of query, key, value and output, the scores, and the weighted sum."""
    return 8 * seq_len * hidden * head_size + 4 * seq_len * seq_len * head_size


def neuron_flops(hidden: int, seq_len: int) -> int:
    """FLOPs of one FFN neuron: a column in, a row out."""
    return 4 * seq_len * hidden


def head_params(hidden: int, head_size: int) -> int:
    """Parameters of one head: three (hidden + 1) x head_size slices and one head_size x hidden."""
    return head_size * (4 * hidden + 3)


def neuron_params(hidden: int) -> int:
    """Parameters of one FFN neuron: its row in with bias, its column out."""
    return 2 * hidden + 1


def shape_of_config(config: dict[str, Any]) -> Shape:
    """Read the shape off a `config.json`, per layer where the model was pruned or factorized."""
    family = family_of(config["model_type"])
    if family.recurrent:
        return lstm_shape(Lstm(config["embedding_size"], config[family.hidden_key] // 2, config[family.ffn_key]))
    hidden, heads = config[family.hidden_key], config[family.heads_key]
    extra = config.get(CONFIG_KEY)
    if not extra:
        return Shape(hidden, hidden // heads, (LayerShape(heads, config[family.ffn_key]),) * config[family.layers_key])
    rank = extra.get(EMBEDDING_KEY)
    embedding = (rank, config.get("embedding_size", hidden)) if rank else None
    return Shape(hidden, extra["head_size"], tuple(map(_layer_of, extra["layers"])), embedding, tuple(extra.get(SHARED_KEY, ())))


def lstm_shape(lstm: Lstm) -> Shape:
    """Return the shape of a BiLSTM: as wide as both directions together, without layers."""
    return Shape(2 * lstm.units, 0, (), lstm=lstm)


def _layer_of(entry: dict[str, Any]) -> LayerShape:
    ranks = entry.get(RANKS_KEY) or {}
    return LayerShape(entry["heads"], entry["ffn"], tuple((role, ranks[role]) for role in ROLES if role in ranks))


def config_entry(shape: Shape, adapter_size: int = 0) -> dict[str, Any]:
    """Return the extra entry of `config.json` from which a pruned, factorized or shared model, or one with adapters, is rebuilt."""
    entry = {"version": VERSION, "head_size": shape.head_size, "layers": shape.as_json()}
    entry |= {ADAPTER_KEY: adapter_size} if adapter_size else {}
    entry |= {EMBEDDING_KEY: shape.embedding[0]} if shape.embedding else {}
    return entry | ({SHARED_KEY: list(shape.shared)} if shape.shared else {})


def sketch(layers: Sequence[dict[str, Any]]) -> str:
    """Write the layers on two lines, for a terminal: heads and FFN neurons from the first layer to the last."""
    heads = " ".join(f"{layer['heads']:>5}" for layer in layers)
    return f"  heads {heads}\n  ffn   " + " ".join(f"{layer['ffn']:>5}" for layer in layers)


def sketch_curve(points: Sequence[tuple[float, float]], width: int = 40) -> str:
    """Draw (speedup, score) points for a terminal, a line each; bars start below the lowest score, so that losses show."""
    low = min(score for _, score in points)
    high = max(score for _, score in points)
    floor = low - max(0.01, 0.25 * (high - low))
    bars = ["#" * max(1, round(width * (score - floor) / (high - floor))) for _, score in points]
    return "\n".join(f"  {speedup:>6.2f}x  {100 * score:6.2f} {bar}" for (speedup, score), bar in zip(points, bars, strict=True))
