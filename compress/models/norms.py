"""Norms of hidden states: LayerNorm, and RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467), which has no mean and no bias.

`RMSNorm(x) = gain * x / sqrt(mean(x^2) + epsilon)`. transformers names its modules by family (`EuroBertRMSNorm`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional


def is_rms_norm(module: object) -> bool:
    """Return whether a module is an RMSNorm."""
    return type(module).__name__.endswith("RMSNorm")


def is_norm(module: object) -> bool:
    """Return whether a module is a LayerNorm or an RMSNorm."""
    return isinstance(module, nn.LayerNorm) or is_rms_norm(module)


def norm_epsilon(norm: nn.Module) -> float:
    """Return what a norm adds to the mean square."""
    return float(norm.variance_epsilon if is_rms_norm(norm) else norm.eps)  # pyright: ignore[reportArgumentType]


def standardized(norm: nn.Module, states: torch.Tensor) -> torch.Tensor:
    """Return what a norm computes before its gain and bias, the same shape as `states`."""
    if is_rms_norm(norm):
        return states * torch.rsqrt(states.square().mean(-1, keepdim=True) + norm_epsilon(norm))
    return functional.layer_norm(states, states.shape[-1:], None, None, norm_epsilon(norm))


def narrow_norm(norm: nn.Module, kept: Sequence[int]) -> None:
    """Keep entries of a norm in their order, in place."""
    for name, parameter in list(norm.named_parameters()):
        setattr(norm, name, nn.Parameter(parameter.detach()[list(kept)].clone()))
    if isinstance(norm, nn.LayerNorm):
        norm.normalized_shape = (len(kept),)
