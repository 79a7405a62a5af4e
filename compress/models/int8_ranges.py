"""The ranges of static int8 that a model was trained with, by matmul: an entry of `config.json`. No torch in this module.

`distill --quantize int8` writes the entry. The weights next to it are ordinary float weights; `quantize` reads the ranges instead of
calibrating, and `eval` rounds with them (see `compress.models.int8_rounding`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from compress.core import console
from compress.models.types import Config

RANGES_KEY = "compress_int8_ranges"
LARGEST_RANGE = 1e30  # far from float32's end, so that the width of a range is a number
WEIGHT_LEVELS = 127
TABLE_ROWS = 1024  # embedding tables of at least so many rows are int8


@dataclass(frozen=True)
class Range:
    """The values that int8 can represent; values beyond are clipped to the nearer end."""

    low: float
    high: float


def affine(value_range: Range, symmetric: bool) -> tuple[np.float32, np.uint8 | np.int8]:
    """Return the scale S and zero point Z of `r = S (q - Z)` (Jacob et al. 2018, arXiv 1712.05877, eq. 1) for a range.

    uint8 with a zero point that represents 0 exactly; or, if `symmetric`, int8 with Z = 0.
    """
    low, high = min(value_range.low, 0.0), max(value_range.high, 0.0)
    if symmetric:
        bound = max(-low, high)
        return np.float32(bound / 127 if bound else 1.0), np.int8(0)
    scale = (high - low) / 255 or 1.0
    return np.float32(scale), np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def range_of(scale: float, zero: int) -> Range:
    """Return the range whose `affine` scale and zero point (not symmetric) are these, exactly."""
    return Range(0.0 - zero * scale, (255 - zero) * scale)


def recorded_ranges(config: Config) -> dict[str, Range]:
    """Return the ranges in a checked config by the names of the graph's matmuls; empty without an entry."""
    return {name: Range(low, high) for name, (low, high) in (config.get(RANGES_KEY) or {}).items()}


def record_ranges(config: Any, ranges: Mapping[str, Range]) -> None:
    """Write the entry of a model's config in memory."""
    setattr(config, RANGES_KEY, {name: [limits.low, limits.high] for name, limits in ranges.items()})


def drop_ranges(config: Any, reason: str = "") -> None:
    """Remove the entry of a model's config in memory, if there is one; warns with the `reason`, if it is given."""
    if getattr(config, RANGES_KEY, None):
        delattr(config, RANGES_KEY)
        if reason:
            console.warn(f"the int8 ranges of the model are dropped: {reason}")


def is_entry(entry: object) -> bool:
    """Return whether an entry of an untrusted config maps names to ranges: two finite numbers around 0 each."""
    return isinstance(entry, dict) and all(isinstance(name, str) and _is_range(limits) for name, limits in entry.items())


def _is_range(limits: object) -> bool:
    if not isinstance(limits, list) or len(limits) != 2 or not all(type(limit) in (int, float) for limit in limits):
        return False
    low, high = limits
    return all(math.isfinite(limit) for limit in limits) and -LARGEST_RANGE <= low <= 0 <= high <= LARGEST_RANGE
