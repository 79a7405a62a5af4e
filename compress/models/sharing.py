"""Layers that share their weights (ALBERT, Lan et al. 2020, arXiv 1909.11942): one copy, used at several depths.

Shared layers are separate modules whose parameters are the same tensors, which is how they are recognised. `config.json` records
for each layer its owner, the first layer that has the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from compress.core.errors import UsageError
from compress.models.family import family_of
from compress.models.layers import encoder_layers, layer_list
from compress.models.low_rank import NOT_BOTH
from compress.models.types import TransformersModel

Owners = tuple[int, ...]  # for each layer, the first layer that has the same weights


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


def refuse_shared(model: TransformersModel, verb: str) -> None:
    """Refuse a model with shared layers.

    Raises:
        UsageError: some layers share their weights.
    """
    if owners_of(model):
        hint = NOT_BOTH if verb == "factorize" else f"{verb} the model first, then share the result"
        raise UsageError(f"{verb} does not support models whose layers share weights", hint)
