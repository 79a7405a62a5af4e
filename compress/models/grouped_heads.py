"""Grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245): several heads have one key and one value.

In memory every head has its own copy, so that heads are scored, removed and fitted one by one like those of other families. A plain model
whose copies are equal is saved without them; the graph computes each different key and value once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from compress.models.family import FAMILIES, Family, family_of
from compress.models.layers import encoder_layers
from compress.models.shape import CONFIG_KEY
from compress.models.types import StateDict, TransformersModel

GROUPS = "num_key_value_groups"  # of transformers' attention modules: heads of each key and value


@torch.no_grad()
def repeat_groups(model: nn.Module) -> None:
    """Give each head of a new or loaded model its own key and value, in place; other families stay as they are."""
    config = getattr(model, "config", None)
    family = FAMILIES.get(getattr(config, "model_type", ""))
    if config is None or family is None or not family.kv_heads_key:
        return
    heads, stored = (getattr(config, key) for key in (family.heads_key, family.kv_heads_key))
    for module in list(model.modules()) if stored < heads else ():
        if hasattr(module, GROUPS):
            for path in (family.key, family.value):
                _repeat(getattr(module, path.rpartition(".")[2]), stored, heads // stored)
            setattr(module, GROUPS, 1)
    setattr(config, family.kv_heads_key, heads)


def _repeat(linear: nn.Linear, groups: int, copies: int) -> None:
    for name, parameter in list(linear.named_parameters()):
        own = parameter.detach().unflatten(0, (groups, -1)).repeat_interleave(copies, 0).flatten(0, 1)
        setattr(linear, name, nn.Parameter(own.contiguous(), parameter.requires_grad))
    linear.out_features = linear.weight.shape[0]


@contextmanager
def stored_groups(model: TransformersModel) -> Iterator[int]:
    """Let a model's config say within this context how many keys and values are saved, and yield their number; 0 in other families."""
    family, config = family_of(model.config.model_type), model.config
    if not family.kv_heads_key:
        yield 0
        return
    heads = getattr(config, family.heads_key)
    count = heads if hasattr(config, CONFIG_KEY) else next(n for n in range(1, heads + 1) if heads % n == 0 and _are_copies(model, n))
    try:
        setattr(config, family.kv_heads_key, count)
        yield count
    finally:
        setattr(config, family.kv_heads_key, heads)


def _are_copies(model: TransformersModel, groups: int) -> bool:
    """Return whether every layer's keys and values are copies of so many."""
    heads = getattr(model.config, family_of(model.config.model_type).heads_key)
    linears = [linear for layer in encoder_layers(model) for linear in (layer.key, layer.value) if linear is not None]
    parts = [part.detach().unflatten(0, (groups, heads // groups, -1)) for linear in linears for part in linear.parameters()]
    return all(torch.equal(part, part[:, :1].expand_as(part)) for part in parts)


def without_copies(state: StateDict, family: Family, heads: int, groups: int) -> StateDict:
    """Return weights with one key and value for each of the groups."""
    if groups in (0, heads):
        return state
    ends = tuple(f".{path}.{kind}" for path in (family.key, family.value) for kind in ("weight", "bias"))
    return {
        name: tensor.unflatten(0, (groups, heads // groups, -1))[:, 0].flatten(0, 1).contiguous() if name.endswith(ends) else tensor
        for name, tensor in state.items()
    }


def equal_heads(weight: torch.Tensor, bias: torch.Tensor | None, heads: int) -> list[int]:
    """Return for each head the first one with the same rows.

    Args:
        weight: of a projection, (heads * size, in).
        bias: of it, (heads * size,).
        heads: of the layer.
    """
    rows = weight if bias is None else torch.cat([weight, bias[:, None]], 1)
    first: dict[bytes, int] = {}
    parts = rows.detach().cpu().numpy().reshape(heads, -1)
    return [first.setdefault(part.tobytes(), number) for number, part in enumerate(parts)]


@contextmanager
def kept_groups(model: TransformersModel, size: int) -> Iterator[None]:
    """Keep equal keys and values equal while a model is trained within this context: they get the mean of their gradients.

    Args:
        model: of any family; only keys and values that are trained count.
        size: of a head.
    """
    tied: list[tuple[nn.Parameter, list[int]]] = []
    for layer in encoder_layers(model) if family_of(model.config.model_type).kv_heads_key else ():
        for linear in (layer.key, layer.value):
            if isinstance(linear, nn.Linear) and linear.weight.requires_grad:
                first = equal_heads(linear.weight, linear.bias, linear.out_features // size)
                own = [linear.weight, *([] if linear.bias is None else [linear.bias])]
                tied += [(parameter, first) for parameter in own if len(set(first)) < len(first)]
    hooks = [parameter.register_hook(lambda gradient, first=first: _group_means(gradient, first)) for parameter, first in tied]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            for parameter, first in tied:  # optimizers round equal numbers alike only in equal places of a vector
                parameter.copy_(_group_means(parameter, first))


def _group_means(values: torch.Tensor, first: list[int]) -> torch.Tensor:
    """Return rows of heads, (heads * size, …), each replaced by the mean of its group."""
    parts = values.unflatten(0, (len(first), -1))
    means = {head: parts[[number for number, other in enumerate(first) if other == head]].mean(0) for head in set(first)}
    return torch.stack([means[head] for head in first]).flatten(0, 1)
