"""The range that an activation is quantized to, from a histogram of its values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from compress.models.int8_ranges import Range

BINS = 4096
CHUNK = 1 << 15  # values counted at a time: they stay in the processor's cache, which is six times faster
PERCENTILE = 99.99
ACTIVATION_LEVELS = 255
ENTROPY_LEVELS = 128  # of absolute values, as in TensorRT
CalibrationMethod = Literal["minmax", "percentile", "mse", "entropy"]


@dataclass
class Histogram:
    """Counts of values in equal bins over [-bound, bound), with an edge at 0; the bound doubles when a value exceeds it.

    Doubling merges pairs of neighbouring bins, so counts stay exact.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    bound: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    channels: np.ndarray | None = None  # largest absolute value of each channel, (channels,)

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 2 * self.bound / len(self.counts)

    @property
    def edges(self) -> np.ndarray:
        """The bins' edges, (bins + 1,)."""
        return np.linspace(-self.bound, self.bound, len(self.counts) + 1)

    def add(self, rows: np.ndarray) -> None:
        """Count the values of (n, channels)."""
        if not rows.size:
            return
        self.low, self.high = min(self.low, float(rows.min())), max(self.high, float(rows.max()))
        largest = np.abs(rows).max(axis=0)
        self.channels = largest if self.channels is None else np.maximum(self.channels, largest)
        self._grow(float(largest.max()))
        if self.bound:
            values = rows.ravel()
            for start in range(0, len(values), CHUNK):
                self._count(values[start : start + CHUNK])
        else:
            self.counts[len(self.counts) // 2] += rows.size  # only zeros so far

    def _count(self, values: np.ndarray) -> None:
        positions = values.astype(np.float64)
        positions /= self.bound
        positions += 1
        positions *= len(self.counts) // 2
        bins = np.minimum(positions.astype(np.int64), len(self.counts) - 1)  # the bound itself belongs to the last bin
        self.counts += np.bincount(bins, minlength=len(self.counts))

    def _grow(self, largest: float) -> None:
        if self.bound == 0:
            self.bound = largest
        while largest > self.bound:
            quarter = len(self.counts) // 4
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, (quarter, quarter))
            self.bound *= 2

    def share_outside(self, limits: Range) -> float:
        """Return the share of values outside a range, counting the bins that lie wholly outside."""
        outside = (self.edges[1:] <= limits.low) | (self.edges[:-1] >= limits.high)
        return float(self.counts[outside].sum() / max(1, self.counts.sum()))


def calibrated_range(histogram: Histogram, method: CalibrationMethod, symmetric: bool = False) -> Range:
    """Return the range to quantize by a calibration method; it contains 0 and stays within the observed values.

    Args:
        histogram: of the values.
        method: `minmax` is the observed range; for `percentile`, `mse`, `entropy` see the functions of these names.
        symmetric: return the same bound on both sides of 0.
    """
    if not histogram.counts.sum() or histogram.bound == 0:
        return Range(0.0, 0.0)
    observed = Range(min(histogram.low, 0.0), max(histogram.high, 0.0))
    if method == "percentile":
        chosen = percentile(histogram.counts, histogram.edges, PERCENTILE)
    elif method == "mse":
        chosen = mse(histogram.counts, histogram.edges, observed, symmetric)
    elif method == "entropy":
        chosen = entropy(histogram.counts, histogram.bound)
    else:
        chosen = observed
    chosen = Range(min(0.0, max(chosen.low, observed.low)), max(0.0, min(chosen.high, observed.high)))
    if symmetric:
        largest = max(-chosen.low, chosen.high)
        return Range(-largest, largest)
    return chosen


def percentile(counts: np.ndarray, edges: np.ndarray, percent: float) -> Range:
    """Return the range that holds `percent` of the values, with equal shares clipped above and below; linear within bins."""
    share = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    cut = (1 - percent / 100) / 2
    return Range(float(np.interp(cut, share, edges)), float(np.interp(1 - cut, share, edges)))


def mse(counts: np.ndarray, edges: np.ndarray, observed: Range, symmetric: bool = False) -> Range:
    """Return the range whose expected squared quantization error is least, over all pairs of bin edges.

    A value inside has a rounding error of `S^2 / 12` on average with the step `S = (high - low) / 255`; a value outside has its
    distance to the end. So the error is the sum of a term in `low`, a term in `high` and a term in their distance, and
    all pairs are evaluated at once (Banner et al. 2019, arXiv 1810.05723, eq. 5, over a histogram).
    """
    half, total = len(counts) // 2, float(counts.sum())
    highs, lows = np.minimum(edges[half:], observed.high), np.maximum(edges[half::-1], observed.low)
    if symmetric:
        highs = np.minimum(edges[half:], max(observed.high, -observed.low))
        lows = -highs
    above, below = _tail(counts[half:], edges[half:], highs), _tail(counts[:half][::-1], -edges[half::-1], -lows)
    if symmetric:
        errors = above[0] + below[0] + (total - above[1] - below[1]) * (2 * highs / (ACTIVATION_LEVELS - 1)) ** 2 / 12
        end = float(highs[np.argmin(errors)])
        return Range(-end, end)
    least, chosen = np.inf, observed
    for number in np.unique(lows, return_index=True)[1]:
        step = (highs - lows[number]) / ACTIVATION_LEVELS
        errors = above[0] + below[0][number] + (total - above[1] - below[1][number]) * step**2 / 12
        best = int(np.argmin(errors))
        if errors[best] < least:
            least, chosen = errors[best], Range(float(lows[number]), float(highs[best]))
    return chosen


def _tail(counts: np.ndarray, edges: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for a range that ends at each edge, the summed squared distances of the values beyond, and their number.

    Bins (n,) are counted outwards from 0, edges and ends are (n + 1,); the values of a bin are assumed at its middle.
    """
    middles = (edges[:-1] + edges[1:]) / 2

    def outer(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])

    number, first, second = outer(counts.astype(float)), outer(counts * middles), outer(counts * middles**2)
    return np.maximum(second - 2 * ends * first + ends**2 * number, 0.0), number


def entropy(counts: np.ndarray, bound: float, levels: int = ENTROPY_LEVELS) -> Range:
    """Return the symmetric range that loses the least information by clipping and rounding.

    TensorRT's calibration (Migacz 2017, "8-bit inference with TensorRT"): for every number of bins of the absolute values
    from `levels` on, P is their counts, with the counts beyond added to the last; Q is the same bins without the counts beyond,
    merged into `levels` and spread evenly over the bins that are not empty; the range with the least KL(P || Q) wins.
    """
    half = len(counts) // 2
    absolute = (counts[half:] + counts[:half][::-1]).astype(float)
    last = int(np.flatnonzero(absolute)[-1]) + 1
    best, least = last, np.inf
    for bins in range(levels, last + 1):
        divergence = _divergence(absolute, bins, levels)
        if divergence < least:
            best, least = bins, divergence
    end = bound * best / half
    return Range(-end, end)


def _divergence(absolute: np.ndarray, bins: int, levels: int) -> float:
    inside = absolute[:bins]
    clipped = inside.copy()
    clipped[-1] += absolute[bins:].sum()
    starts = np.arange(levels) * bins // levels
    filled = inside > 0
    merged, positions = np.add.reduceat(inside, starts), np.add.reduceat(filled.astype(float), starts)
    spread = np.repeat(merged / np.maximum(positions, 1), np.diff(starts, append=bins)) * filled
    some = clipped > 0
    if not spread.any() or (spread[some] == 0).any():
        return np.inf
    p, q = clipped[some] / clipped.sum(), spread[some] / spread.sum()
    return float((p * np.log(p / q)).sum())
