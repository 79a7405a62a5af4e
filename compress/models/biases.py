"""Biases in families whose config says which modules have one (ModernBERT): refits add them where they help.

A module without a bias computes what one with a bias of zeros does. `fill_biases` brings a model back to what its config can say: all
modules of a kind have biases, or none.
"""

from __future__ import annotations

import torch
from torch import nn

from compress.models.family import family_of
from compress.models.types import TransformersModel


def require_bias(module: nn.Linear | nn.LayerNorm) -> nn.Parameter:
    """Return the bias of a module, which gets one of zeros, in place, if it has none."""
    if module.bias is None:
        weight = module.weight
        module.bias = nn.Parameter(torch.zeros(weight.shape[0], dtype=weight.dtype, device=weight.device))
    return module.bias


def bias_or_zeros(module: nn.Linear | nn.LayerNorm) -> torch.Tensor:
    """Return the bias of a module, or zeros if it has none, (out,)."""
    return module.weight.new_zeros(module.weight.shape[0]) if module.bias is None else module.bias


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


def _is_one_of(name: str, paths: tuple[str, ...]) -> bool:
    return any(name == path or name.endswith(f".{path}") for path in paths)
