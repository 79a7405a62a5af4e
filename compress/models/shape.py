"""The shape of an encoder (heads and FFN neurons of each layer), its FLOPs and parameters, and its entry in `config.json`.

No torch in this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compress.models.family import BILSTM, STATIC, family_of
from compress.models.layer_groups import config_owners, count_layers
from compress.models.types import Config
from compress.results import LayerDocument

CONFIG_KEY = "compress"  # the entry of config.json that describes what transformers' own keys cannot
ADAPTER_KEY = "adapter_size"  # in the entry: bottleneck width of adapters
RANKS_KEY = "ranks"  # in a layer of the entry: ranks of factorized linears by role
EMBEDDING_RANK_KEY = "embedding_rank"  # in the entry: rank of factorized word embeddings
BIASES_KEY = "biases"  # in the entry: whether the linears of layers have biases that the family never has
SHARED_KEY = "shared"  # in the entry: for each layer, the first layer that has the same weights
TOKENS_KEY = "tokens"  # in a layer of the entry: the share of a text's tokens that it keeps
LEAST_TOKENS = 8  # of a text, whatever the share
VERSION = 1
ROLES = ("query", "key", "value", "attention_output", "ffn_in", "ffn_gate", "ffn_out")  # a layer's linears, as `Family` names them


@dataclass(frozen=True)
class LayerShape:
    """The size of a layer. With 0 heads or 0 FFN neurons, the sublayer's bias and LayerNorm remain."""

    heads: int
    ffn: int
    ranks: tuple[tuple[str, int], ...] = ()  # (role, rank) of factorized linears, in the order of `ROLES`
    tokens: float = 1.0  # share of a text's tokens that its FFN and the layers after it compute; a layer without heads selects none

    def as_json(self) -> LayerDocument:
        """Return `{"heads": h, "ffn": f}`, with `ranks` if linears are factorized, and `tokens` if it keeps fewer than all."""
        document: LayerDocument = {"heads": self.heads, "ffn": self.ffn}
        if self.ranks:
            document["ranks"] = dict(self.ranks)
        if self.tokens < 1:
            document["tokens"] = self.tokens
        return document


@dataclass(frozen=True)
class LstmShape:
    """The sizes of a bidirectional LSTM."""

    title: ClassVar = "BiLSTM"
    embedding: int  # width of its inputs
    units: int  # in each direction
    ffn: int  # width of the hidden layer that follows

    def flops(self, seq_len: int) -> int:
        """Return 2 x multiply-adds: four gates in both directions for every token, the hidden layer once per text."""
        return 16 * seq_len * self.units * (self.embedding + self.units) + 4 * self.units * self.ffn

    def params(self) -> int:
        """Return weights and biases; PyTorch has two biases per gate."""
        return 8 * self.units * (self.embedding + self.units + 2) + (2 * self.units + 1) * self.ffn


@dataclass(frozen=True)
class StaticShape:
    """The sizes of a static model: mean embeddings of tokens and of bigrams, and a hidden layer."""

    title: ClassVar = "static model"
    embedding: int  # width of a token's embedding
    bigram: int  # width of a bigram's embedding
    buckets: int  # rows of the table of bigrams
    ffn: int  # width of the hidden layer
    texts: int = 1  # of an example

    @property
    def features(self) -> int:
        """Return the width of what the hidden layer reads: the means u of a text, or u, v, |u - v| and u v of two."""
        return (self.embedding + self.bigram) * (1 if self.texts == 1 else 4)

    def flops(self, seq_len: int) -> int:
        """Return 2 x multiply-adds: the weighted sums of all tokens and bigrams, and the hidden layer."""
        return 2 * (seq_len * self.texts * (self.embedding + self.bigram) + self.features * self.ffn)

    def params(self) -> int:
        """Return weights and biases of the hidden layer; the tables of tokens and bigrams are embeddings and do not count."""
        return (self.features + 1) * self.ffn


@dataclass(frozen=True)
class Shape:
    """The shape of an encoder: width, head size, and every layer."""

    hidden: int
    head_size: int
    layers: tuple[LayerShape, ...]
    embedding: tuple[int, int] | None = None  # rank and width of factorized word embeddings
    shared: tuple[int, ...] = ()  # for each layer, the first layer that has the same weights; empty if none are shared
    gated: bool = False  # whether FFNs have a gate: three weights for each input and neuron instead of two
    lstm: LstmShape | None = None  # of a BiLSTM, which has no layers
    static: StaticShape | None = None  # of a static model, which has none either

    @property
    def without_layers(self) -> LstmShape | StaticShape | None:
        """The sizes of a model that is no transformer; None for a transformer."""
        return self.lstm or self.static

    def flops(self, seq_len: int) -> int:
        """Return 2 x multiply-adds of the layers' matmuls for one sequence of `seq_len` tokens.

        The projection of factorized word embeddings counts, too.
        """
        if self.without_layers is not None:
            return self.without_layers.flops(seq_len)
        projection = 2 * seq_len * self.embedding[0] * self.embedding[1] if self.embedding else 0
        tokens = [kept_tokens(seq_len, share) for share in (1.0, *self.token_shares)]
        return projection + sum(
            layer.heads * head_flops(self.hidden, self.head_size, before, after)
            + layer.ffn * neuron_flops(self.hidden, after, self.gated)
            + 2 * before * self._extra_weights(layer)
            for layer, before, after in zip(self.layers, tokens, tokens[1:], strict=False)
        )

    @property
    def token_shares(self) -> tuple[float, ...]:
        """The share of a text's tokens that is left after each layer's attention: never more than after the layer below."""
        shares, left = [], 1.0
        for layer in self.layers:
            left = min(left, layer.tokens) if layer.heads else left
            shares.append(left)
        return tuple(shares)

    def params(self) -> int:
        """Return weights and biases of the layers' linears, shared ones once; embeddings, LayerNorms and head do not count.

        Biases count in families without, too: refits add them. The projection of factorized word embeddings counts, their table does not.
        """
        if self.without_layers is not None:
            return self.without_layers.params()
        per_head, per_neuron = head_params(self.hidden, self.head_size), neuron_params(self.hidden, self.gated)
        projection = (self.embedding[0] + 1) * self.embedding[1] if self.embedding else 0
        return projection + sum(
            layer.heads * per_head + layer.ffn * per_neuron + 2 * self.hidden + self._extra_weights(layer)
            for number, layer in enumerate(self.layers)
            if not self.shared or self.shared[number] == number
        )

    def linear_sizes(self, layer: LayerShape) -> dict[str, tuple[int, int]]:
        """Return (in_features, out_features) of a layer's linears by role."""
        width = layer.heads * self.head_size
        into, back = (self.hidden, width), (width, self.hidden)
        ffn_in, ffn_out = (self.hidden, layer.ffn), (layer.ffn, self.hidden)
        sizes: dict[str, tuple[int, int]] = dict(zip(ROLES, (into, into, into, back, ffn_in, ffn_in, ffn_out), strict=True))
        return sizes if self.gated else {role: size for role, size in sizes.items() if role != "ffn_gate"}

    def _extra_weights(self, layer: LayerShape) -> int:
        """Return how many more weights a layer's factors have than the whole linears (negative: fewer)."""
        sizes = self.linear_sizes(layer)
        return sum(factor_weights(*sizes[role], rank) - sizes[role][0] * sizes[role][1] for role, rank in layer.ranks)

    def as_json(self) -> list[LayerDocument]:
        """Return the layers as `[{"heads": h, "ffn": f}, …]`, with `ranks` if linears are factorized."""
        return [layer.as_json() for layer in self.layers]


def factor_weights(in_features: int, out_features: int, rank: int) -> int:
    """Return the weights of a linear's two factors, without the bias."""
    return rank * (in_features + out_features)


def kept_tokens(length: int, share: float) -> int:
    """Return how many tokens of a text of `length` tokens a share of them is: rounded up, at least `LEAST_TOKENS` if there are as many.

    Shares count in thousandths, so that whole numbers decide: PyTorch and every runtime keep equally many.
    """
    return max(min(length, LEAST_TOKENS), -(-length * per_mille(share) // 1000))


def per_mille(share: float) -> int:
    """Return a share in thousandths."""
    return round(1000 * share)


def head_flops(hidden: int, head_size: int, seq_len: int, kept: int | None = None) -> int:
    """Return the FLOPs of one head: its slices of query, key, value and output, the scores, and the weighted sum.

    With `kept`, only so many tokens reach the output projection.
    """
    kept = seq_len if kept is None else kept
    return (6 * seq_len + 2 * kept) * hidden * head_size + 4 * seq_len * seq_len * head_size


def neuron_flops(hidden: int, seq_len: int, gated: bool = False) -> int:
    """Return the FLOPs of one FFN neuron: a column in (two, if the FFN is gated), a row out."""
    return (6 if gated else 4) * seq_len * hidden


def head_params(hidden: int, head_size: int) -> int:
    """Return the parameters of one head: three (hidden + 1) x head_size slices and one head_size x hidden."""
    return head_size * (4 * hidden + 3)


def neuron_params(hidden: int, gated: bool = False) -> int:
    """Return the parameters of one FFN neuron: its row in with bias (two, if the FFN is gated), its column out."""
    return (3 * hidden + 2) if gated else (2 * hidden + 1)


def shape_of_config(config: Config) -> Shape:
    """Return the shape that a `config.json` describes."""
    family = family_of(config["model_type"])
    if family is BILSTM:
        return lstm_shape(LstmShape(config["embedding_size"], config[family.hidden_key] // 2, config[family.ffn_key]))
    if family is STATIC:
        sizes = (config[key] for key in (family.hidden_key, "bigram_size", "bigram_buckets", family.ffn_key, "texts"))
        return static_shape(StaticShape(*sizes))
    hidden, heads, gated = config[family.hidden_key], config[family.heads_key], bool(family.ffn_gate)
    entry = config.get(CONFIG_KEY)
    if not entry:
        layers = (LayerShape(heads, config[family.ffn_key]),) * count_layers(config, family)
        return Shape(hidden, hidden // heads, layers, shared=config_owners(config, family), gated=gated)
    rank = entry.get(EMBEDDING_RANK_KEY)
    embedding = (rank, config.get("embedding_size", hidden)) if rank else None
    layers, shared = tuple(map(_layer_of, entry["layers"])), tuple(entry.get(SHARED_KEY, ()))
    return Shape(hidden, entry["head_size"], layers, embedding, shared, gated=gated)


def lstm_shape(lstm: LstmShape) -> Shape:
    """Return the shape of a BiLSTM: as wide as both directions together, without transformer layers."""
    return Shape(2 * lstm.units, 0, (), lstm=lstm)


def static_shape(static: StaticShape) -> Shape:
    """Return the shape of a static model: as wide as its token embeddings, without transformer layers."""
    return Shape(static.embedding, 0, (), static=static)


def _layer_of(document: LayerDocument) -> LayerShape:
    ranks = document.get("ranks") or {}
    kept = tuple((role, ranks[role]) for role in ROLES if role in ranks)
    return LayerShape(document["heads"], document["ffn"], kept, document.get("tokens", 1.0))


def config_entry(shape: Shape, adapter_size: int = 0, biased: bool = False) -> Config:
    """Return the entry of `config.json` from which a pruned, factorized or shared model, or one with adapters, is rebuilt."""
    entry: Config = {"version": VERSION, "head_size": shape.head_size, "layers": shape.as_json()}
    entry |= {ADAPTER_KEY: adapter_size} if adapter_size else {}
    entry |= {EMBEDDING_RANK_KEY: shape.embedding[0]} if shape.embedding else {}
    entry |= {BIASES_KEY: True} if biased else {}
    return entry | ({SHARED_KEY: list(shape.shared)} if shape.shared else {})


def describe_entry(entry: Config) -> str:
    """Name the kind of compressed model that an entry describes, for messages."""
    if ADAPTER_KEY in entry:
        return "a model with adapters"
    if EMBEDDING_RANK_KEY in entry or any(RANKS_KEY in layer for layer in entry["layers"]):
        return "a factorized model"
    return "a model with shared layers" if SHARED_KEY in entry else "a pruned model"
