"""Biases in families that mostly have none: refits add them where they help.

A module without a bias computes what one with a bias of zeros does. `fill_biases` brings a model back to what its config can say: all
modules of a kind have biases, or none. Where no key of transformers' config says so (NomicBERT), our own entry does, if there is one:
a model that plain transformers can load gets no biases.
"""

from __future__ import annotations

import torch
from torch import nn

from compress.models.family import family_of
from compress.models.layers import encoder_layers
from compress.models.shape import CONFIG_KEY, ROLES
from compress.models.types import TransformersModel


def require_bias(module: nn.Linear | nn.LayerNorm) -> nn.Parameter:
    """Return the bias of a module, which gets one of zeros, in place, if it has none."""
    if module.bias is None:
        weight = module.weight
        module.bias = nn.Parameter(torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device))
    return module.bias


def bias_or_zeros(module: nn.Linear | nn.LayerNorm) -> torch.Tensor:
    """Return the bias of a module, or zeros if it has none, (out,)."""
    bias = getattr(module, "bias", None)  # an RMSNorm has none
    return module.weight.new_zeros(module.weight.shape[0]) if bias is None else bias


def fill_biases(model: TransformersModel) -> None:
    """Give all modules of a kind a bias if one of them has one, in place, and write that into the model's config."""
    for key, paths in family_of(model.config.model_type).bias_keys:
        modules = [
            module for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.LayerNorm)) and _is_one_of(name, paths)
        ]
        if any(module.bias is not None for module in modules):
            for module in modules:
                require_bias(module)
            setattr(model.config, key, True)
    if has_added_biases(model):
        add_biases(model)


def may_add_biases(model: TransformersModel) -> bool:
    """Return whether the linears of a model's layers may get biases: its config, or our entry in it, can say that they have some."""
    return not family_of(model.config.model_type).never_biased or hasattr(model.config, CONFIG_KEY)


def has_added_biases(model: TransformersModel) -> bool:
    """Return whether linears of the layers have biases that their family never has."""
    return family_of(model.config.model_type).never_biased and any(linear.bias is not None for linear in _layer_linears(model))


def add_biases(model: TransformersModel) -> None:
    """Give all linears of the layers, but factorized ones, a bias, in place."""
    for linear in _layer_linears(model):
        require_bias(linear)


def _layer_linears(model: TransformersModel) -> list[nn.Linear]:
    linears = [getattr(layer, role) for layer in encoder_layers(model) for role in ROLES]
    return [linear for linear in linears if isinstance(linear, nn.Linear)]


def _is_one_of(name: str, paths: tuple[str, ...]) -> bool:
    return any(name == path or name.endswith(f".{path}") for path in paths)
