"""Layers that share their weights (ALBERT, Lan et al. 2020, arXiv 1909.11942): one copy, used at several depths.

Shared layers are separate modules whose parameters are the same tensors, which is how they are recognised. `config.json` records
for each layer its owner, the first layer that has the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn

from compress.core.errors import UsageError
from compress.models.family import family_of
from compress.models.layer_groups import Owners
from compress.models.layers import encoder_layers, layer_list
from compress.models.types import TransformersModel


def owners_of(model: TransformersModel) -> Owners:
    """Return each layer's owner; () if no layers share their parameters."""
    first: dict[tuple[int, ...], int] = {}
    owners = tuple(
        first.setdefault(tuple(id(parameter) for parameter in layer.module.parameters()), number)
        for number, layer in enumerate(encoder_layers(model))
    )
    return owners if len(first) < len(owners) else ()


def share_parameters(model: TransformersModel, owners: Sequence[int]) -> None:
    """Let each layer use the parameters of its owner, in place; both must have the same shape."""
    modules = [layer.module for layer in encoder_layers(model)]
    for number, owner in enumerate(owners):
        if owner != number:
            _use_parameters(modules[number], modules[owner])


def unshare_parameters(model: TransformersModel, owners: Sequence[int]) -> None:
    """Give each layer that is not its own owner a copy of its parameters, in place."""
    for layer, (number, owner) in zip(encoder_layers(model), enumerate(owners), strict=False):
        for name, parameter in list(layer.module.named_parameters()) if owner != number else ():
            path, _, last = name.rpartition(".")
            copied = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
            setattr(layer.module.get_submodule(path), last, copied)


@contextmanager
def kept_shared(model: TransformersModel) -> Iterator[Owners]:
    """Share the parameters of layers again on leaving this context, in which each layer of a group got the same new ones."""
    owners = owners_of(model)
    yield owners
    share_parameters(model, owners)


def all_owners(model: TransformersModel) -> Owners:
    """Return each layer's owner, itself where it shares nothing."""
    return owners_of(model) or tuple(range(len(layer_list(model))))


def spans(owners: Sequence[int]) -> list[range]:
    """Split layers into the shortest runs that share no weights with each other.

    >>> spans((0, 1, 0, 3, 4, 4))
    [range(0, 3), range(3, 4), range(4, 6)]
    """
    last = {owner: number for number, owner in enumerate(owners)}
    parts, start, end = [], 0, 0
    for number, owner in enumerate(owners):
        end = max(end, last[owner])
        if number == end:
            parts.append(range(start, number + 1))
            start = end = number + 1
    return parts


def _use_parameters(module: nn.Module, owner: nn.Module) -> None:
    for name, parameter in list(owner.named_parameters()):
        path, _, last = name.rpartition(".")
        setattr(module.get_submodule(path), last, parameter)


def shared_names(model: TransformersModel, owners: Sequence[int]) -> dict[str, str]:
    """Map the name of each shared parameter in the state dict to its owner's name for it."""
    family = family_of(model.config.model_type)
    path = f"{family.encoder}.{family.layers}"
    return {
        f"{path}.{number}.{name}": f"{path}.{owner}.{name}"
        for number, owner in enumerate(owners)
        if owner != number
        for name, _ in layer_list(model)[owner].named_parameters()
    }


def refuse_shared(model: TransformersModel) -> None:
    """Refuse a model whose layers share weights already.

    Raises:
        UsageError: some do.
    """
    owners = owners_of(model)
    copies = len(set(owners))
    if owners:
        number = f"{copies} copies" if copies > 1 else "one copy"
        raise UsageError(
            f"share does not support models whose layers share weights: these {len(owners)} layers have {number}",
            "use fewer layers: prune --method layers, or distill --student layers=N; a smaller vocabulary: prune --method vocab",
        )
