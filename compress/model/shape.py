"""The shape of an encoder (heads and FFN neurons of each layer) and what it costs. No torch in this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.model.family import family_of

CONFIG_KEY = "compress"  # in config.json, of models that differ from what the config says
ADAPTER_KEY = "adapter_size"  # within it, of models with adapters
VERSION = 1


@dataclass(frozen=True)
class LayerShape:
    """What is left of a layer; 0 heads or 0 FFN neurons leave the sublayer's bias and LayerNorm."""

    heads: int
    ffn: int


@dataclass(frozen=True)
class Shape:
    """The shape of an encoder: width, size of a head, and every layer."""

    hidden: int
    head_size: int
    layers: tuple[LayerShape, ...]

    def flops(self, seq_len: int) -> int:
        """Multiply-adds times two, of the layers' matrix products, for one sequence of `seq_len` tokens."""
        return sum(
            layer.heads * head_flops(self.hidden, self.head_size, seq_len) + layer.ffn * neuron_flops(self.hidden, seq_len)
            for layer in self.layers
        )

    def params(self) -> int:
        """Weights and biases of the layers' linears (embeddings, LayerNorms and classifier aside)."""
        per_head, per_neuron = head_params(self.hidden, self.head_size), neuron_params(self.hidden)
        return sum(layer.heads * per_head + layer.ffn * per_neuron + 2 * self.hidden for layer in self.layers)

    def as_json(self) -> list[dict[str, int]]:
        """Return the layers as `[{"heads": h, "ffn": f}, …]`."""
        return [{"heads": layer.heads, "ffn": layer.ffn} for layer in self.layers]


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
    """Read the shape off a `config.json`, per layer where the model was pruned."""
    family = family_of(config["model_type"])
    hidden, heads = config[family.hidden_key], config[family.heads_key]
    extra = config.get(CONFIG_KEY)
    if extra:
        shapes = tuple(LayerShape(layer["heads"], layer["ffn"]) for layer in extra["layers"])
        return Shape(hidden, extra["head_size"], shapes)
    return Shape(hidden, hidden // heads, (LayerShape(heads, config[family.ffn_key]),) * config[family.layers_key])


def config_entry(shape: Shape, adapter_size: int = 0) -> dict[str, Any]:
    """Return the extra entry of `config.json` from which a pruned model, or one with adapters, is rebuilt."""
    entry = {"version": VERSION, "head_size": shape.head_size, "layers": shape.as_json()}
    return entry | ({ADAPTER_KEY: adapter_size} if adapter_size else {})


def sketch(layers: Sequence[dict[str, int]]) -> str:
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
