"""Layers that share their weights (ALBERT, Lan et al. 2020, arXiv 1909.11942): one copy, used at several depths.

Shared layers are modules of their own whose parameters are the same tensors. Which ones are is read off the tensors
themselves; `config.json` records it, for each layer the first layer that has its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from compress.core.errors import UsageError
from compress.models.family import descend, family_of, layers
from compress.models.low_rank import NOT_BOTH

Owners = tuple[int, ...]  # for each layer, the first one whose weights it uses


def owners_of(model: Any) -> Owners:
    """Return for each layer the first layer that has the same parameters; () where none is shared."""
    first: dict[tuple[int, ...], int] = {}
    found = tuple(
        first.setdefault(tuple(id(parameter) for parameter in layer.module.parameters()), number)
        for number, layer in enumerate(layers(model))
    )
    return found if len(first) < len(found) else ()


def tie(model: Any, owners: Sequence[int]) -> None:
    """Let each layer use the parameters of its owner, in place; the layers' shapes must agree."""
    modules = [layer.module for layer in layers(model)]
    for number, owner in enumerate(owners):
        if owner != number:
            _adopt(modules[number], modules[owner])


def _adopt(module: nn.Module, owner: nn.Module) -> None:
    for name, parameter in list(owner.named_parameters()):
        path, _, last = name.rpartition(".")
        setattr(module.get_submodule(path), last, parameter)


def shared_names(model: Any, owners: Sequence[int]) -> dict[str, str]:
    """Return the names in the state of what a shared layer has of its owner, with the name that the owner has it by."""
    family = family_of(model.config.model_type)
    stack = f"{family.encoder}.{family.layers}"
    return {
        f"{stack}.{number}.{name}": f"{stack}.{owner}.{name}"
        for number, owner in enumerate(owners)
        if owner != number
        for name, _ in descend(model, stack)[owner].named_parameters()
    }


def refuse_shared(model: Any, verb: str) -> None:
    """Refuse what changes layers one by one.

    Raises:
        UsageError: some share their weights.
    """
    if owners_of(model):
        hint = NOT_BOTH if verb == "factorize" else f"{verb} the model first, then share the outcome"
        raise UsageError(f"{verb} does not take a model whose layers share weights", hint)
