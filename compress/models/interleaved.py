"""DeBERTa's (v1) query, key and value: one matrix, whose rows take turns by head, and biases apart from it.

In memory there is one linear for each role, with its bias, as in other families; the forward function of transformers gets their outputs
in the order of the matrix, and biases of zero. What is saved has the names and the layout of transformers again. Its own LayerNorm modules
are PyTorch's.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from compress.models.family import FAMILIES, Family

State = dict[str, torch.Tensor]
PARTS = ("query", "key", "value")
BIASES = {"query": "q_bias", "value": "v_bias"}
JOINED = "in_proj"


class InterleavedLinear(nn.Module):
    """Three linears of the same input; the output has their parts for one head after the other."""

    def __init__(self, query: nn.Module, key: nn.Module, value: nn.Module, size: int) -> None:
        super().__init__()
        self.query, self.key, self.value = query, key, value
        self.attention_head_size = size

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return (..., heads * 3 * size) for (..., in)."""
        parts = [part(states).unflatten(-1, (-1, self.attention_head_size)) for part in (self.query, self.key, self.value)]
        return torch.cat(parts, dim=-1).flatten(-2)


@torch.no_grad()
def split_interleaved(model: nn.Module) -> None:
    """Replace interleaved matrices by a linear for each role, in place; other families stay as they are."""
    family = FAMILIES.get(getattr(getattr(model, "config", None), "model_type", ""))
    for module in list(model.modules()) if family is not None and family.interleaved else ():
        for name, child in list(module.named_children()):
            if type(child).__name__ == "DebertaLayerNorm":
                setattr(module, name, _layer_norm(child))
        if isinstance(joined := getattr(module, JOINED, None), nn.Linear):
            _split(module, joined)


def _layer_norm(norm: nn.Module) -> nn.LayerNorm:
    weight, bias = norm.weight, norm.bias
    plain = nn.LayerNorm(len(weight), eps=norm.variance_epsilon)  # pyright: ignore[reportArgumentType]
    plain.weight, plain.bias = weight, bias  # pyright: ignore[reportAttributeAccessIssue]
    return plain


def _split(attention: nn.Module, joined: nn.Linear) -> None:
    heads, size = int(attention.num_attention_heads), int(attention.attention_head_size)  # pyright: ignore[reportArgumentType]
    rows = joined.weight.detach().unflatten(0, (heads, len(PARTS), size))
    linears: dict[str, nn.Linear] = {}
    for number, part in enumerate(PARTS):
        linear = nn.Linear(joined.in_features, heads * size, bias=part in BIASES)
        linear.weight = nn.Parameter(rows[:, number].flatten(0, 1).clone())
        if part in BIASES:
            name = BIASES[part]
            linear.bias = nn.Parameter(getattr(attention, name).detach().clone())
            delattr(attention, name)
            attention.register_buffer(name, torch.zeros(heads), persistent=False)  # the linear adds its bias
        linears[part] = linear
    setattr(attention, JOINED, InterleavedLinear(**linears, size=size).train(joined.training))


def join_heads(state: State, family: Family, size: int) -> State:
    """Return weights by transformers' names; a layer of which some projection is factorized keeps its parts.

    Args:
        state: by their names in memory.
        family: other families' weights stay as they are.
        size: of a head.
    """
    joined = dict(state)
    for name in list(state) if family.interleaved else ():
        if match := re.fullmatch(rf"(.*)\.{JOINED}\.query\.weight", name):
            keys = [f"{match[1]}.{JOINED}.{part}.weight" for part in PARTS]
            if all(key in state for key in keys):
                parts = torch.stack([joined.pop(key).unflatten(0, (-1, size)) for key in keys], dim=1)
                joined[f"{match[1]}.{JOINED}.weight"] = parts.flatten(0, 2).contiguous()
                joined |= {f"{match[1]}.{bias}": joined.pop(f"{match[1]}.{JOINED}.{part}.bias") for part, bias in BIASES.items()}
    return joined


def split_heads(state: State, family: Family, size: int) -> State:
    """Return weights by their names in memory; the inverse of `join_heads`."""
    split = dict(state)
    for name in list(state) if family.interleaved else ():
        if match := re.fullmatch(rf"(.*)\.{JOINED}\.weight", name):
            rows = split.pop(name).unflatten(0, (-1, len(PARTS), size))
            parts = {part: rows[:, number].flatten(0, 1).contiguous() for number, part in enumerate(PARTS)}
            split |= {f"{match[1]}.{JOINED}.{part}.weight": weight for part, weight in parts.items()}
            split |= {f"{match[1]}.{JOINED}.{part}.bias": split.pop(f"{match[1]}.{bias}") for part, bias in BIASES.items()}
    return split
