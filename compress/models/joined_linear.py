"""Linears that a checkpoint stores as one matrix, and that are several in memory.

ModernBERT has query, key and value in one matrix, and the two first linears of its gated FFN. Everything that scores, cuts, factorizes or
exports a layer reads one linear for each role. So a model that was loaded or built gets the parts, side by side, and what is saved has the
names and the layout of transformers again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from compress.models.family import FAMILIES, Family
from compress.models.types import StateDict

ModelT = TypeVar("ModelT", bound=nn.Module)


class JoinedLinear(nn.Module):
    """Several linears of the same input; the output is theirs, one after the other."""

    def __init__(self, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return (..., sum of the parts' widths) for (..., in)."""
        return torch.cat([part(states) for part in self.children()], dim=-1)


def split_joined(model: ModelT) -> ModelT:
    """Replace the joined linears of a model of transformers by their parts, in place, and return it; other families stay as they are."""
    config: Any = model.config
    family = FAMILIES.get(config.model_type)
    names = dict(family.joined) if family else {}
    for module in list(model.modules()) if names else []:
        for name, child in list(module.named_children()):
            if name in names and isinstance(child, nn.Linear):
                setattr(module, name, _split(child, names[name]))
    return model


def _split(linear: nn.Linear, names: tuple[str, ...]) -> JoinedLinear:
    width = linear.out_features // len(names)
    parts: dict[str, nn.Module] = {}
    for number, name in enumerate(names):
        part = nn.Linear(linear.in_features, width, bias=linear.bias is not None, device="meta")
        rows = slice(number * width, (number + 1) * width)
        part.weight = nn.Parameter(linear.weight.detach()[rows].clone(), linear.weight.requires_grad)
        if linear.bias is not None:
            part.bias = nn.Parameter(linear.bias.detach()[rows].clone(), linear.weight.requires_grad)
        parts[name] = part
    return JoinedLinear(parts).train(linear.training)


def join_state(state: StateDict, family: Family) -> StateDict:
    """Return weights by the names that transformers has for them; a linear of which some part is factorized keeps its parts."""
    joined = dict(state)
    for name, parts in family.joined:
        pattern = re.compile(rf"(.*\b{name})\.{parts[0]}\.(weight|bias)")
        for first in list(state):
            match = pattern.fullmatch(first)
            keys = [f"{match[1]}.{part}.{match[2]}" for part in parts] if match else []
            if match and all(key in state for key in keys) and all(f"{match[1]}.{part}.weight" in state for part in parts):
                joined[f"{match[1]}.{match[2]}"] = torch.cat([joined.pop(key) for key in keys])
    return joined


def split_state(state: StateDict, family: Family) -> StateDict:
    """Return weights by their names in memory; the inverse of `join_state`."""
    split = dict(state)
    for name, parts in family.joined:
        pattern = re.compile(rf"(.*\b{name})\.(weight|bias)")
        for key in list(state):
            if match := pattern.fullmatch(key):
                tensors = split.pop(key).chunk(len(parts))
                split |= {f"{match[1]}.{part}.{match[2]}": tensor for part, tensor in zip(parts, tensors, strict=True)}
    return split
