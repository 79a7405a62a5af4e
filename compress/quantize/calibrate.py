"""Calibration: what the float graph's matmuls read, as histograms of bounded size, and from those the ranges to quantize.

The float graph runs batch by batch with those values as further outputs; each batch is counted and forgotten. Padding is
left out: what stands there is never read, and its range would widen the others'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx

from compress.core import console
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.inference.onnx_session import open_session

BINS = 4096
BATCH_TOKENS = 1024  # a batch's activations are all that is held at a time
CHUNK = 1 << 15  # values counted at a time: what they take stays in the processor's cache, which is six times faster
PERCENTILE = 99.99
ACTIVATION_LEVELS = 255
ENTROPY_LEVELS = 128  # of absolute values, as in TensorRT
Method = Literal["minmax", "percentile", "mse", "entropy"]


@dataclass(frozen=True)
class Range:
    """The values that are told apart; what lies beyond is moved to the nearest end."""

    low: float
    high: float


@dataclass
class Histogram:
    """Counts of values in equal bins over [-bound, bound), a bin edge at 0; the bound doubles where a value lies beyond.

    Doubling merges neighbouring bins two by two, so that no count is ever split or guessed.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, dtype=np.int64))
    bound: float = 0.0
    low: float = np.inf
    high: float = -np.inf
    channels: np.ndarray | None = None  # the largest absolute value of each channel, (channels,)

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
            self.counts[len(self.counts) // 2] += rows.size  # zeros alone, so far

    def _count(self, values: np.ndarray) -> None:
        places = values.astype(np.float64)
        places /= self.bound
        places += 1
        places *= len(self.counts) // 2
        bins = np.minimum(places.astype(np.int64), len(self.counts) - 1)  # the bound itself belongs to the last bin
        self.counts += np.bincount(bins, minlength=len(self.counts))

    def _grow(self, largest: float) -> None:
        if self.bound == 0:
            self.bound = largest
        while largest > self.bound:
            quarter = len(self.counts) // 4
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, (quarter, quarter))
            self.bound *= 2

    def beyond(self, found: Range) -> float:
        """Return the share of values outside a range: those of the bins that lie beyond it as a whole."""
        outside = (self.edges[1:] <= found.low) | (self.edges[:-1] >= found.high)
        return float(self.counts[outside].sum() / max(1, self.counts.sum()))


def calibrated_range(histogram: Histogram, method: Method, symmetric: bool = False) -> Range:
    """Return the range to quantize by a calibration method; it holds 0, and nothing beyond what was seen.

    Args:
        histogram: of a value.
        method: `minmax`: all that was seen; `percentile`, `mse`, `entropy`: see the functions of these names.
        symmetric: the same to both sides of 0.
    """
    if not histogram.counts.sum() or histogram.bound == 0:
        return Range(0.0, 0.0)
    seen = Range(min(histogram.low, 0.0), max(histogram.high, 0.0))
    if method == "percentile":
        found = percentile(histogram.counts, histogram.edges, PERCENTILE)
    elif method == "mse":
        found = mse(histogram.counts, histogram.edges, seen, symmetric)
    elif method == "entropy":
        found = entropy(histogram.counts, histogram.bound)
    else:
        found = seen
    found = Range(min(0.0, max(found.low, seen.low)), max(0.0, min(found.high, seen.high)))
    if symmetric:
        largest = max(-found.low, found.high)
        return Range(-largest, largest)
    return found


def percentile(counts: np.ndarray, edges: np.ndarray, percent: float) -> Range:
    """Return the range that holds `percent` of the values, as many cut off above as below; straight lines within bins."""
    share = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    cut = (1 - percent / 100) / 2
    return Range(float(np.interp(cut, share, edges)), float(np.interp(1 - cut, share, edges)))


def mse(counts: np.ndarray, edges: np.ndarray, seen: Range, symmetric: bool = False) -> Range:
    """Return the range whose expected squared quantization error is least, over all pairs of bin edges.

    A value within is off by rounding, `S^2 / 12` on average with the step `S = (high - low) / 255`; one beyond by its
    distance to the end. So the error is a sum of a part of `low`, a part of `high` and a part of their distance, and
    all pairs are tried at once (Banner et al. 2019, arXiv 1810.05723, eq. 5, over a histogram).
    """
    half, total = len(counts) // 2, float(counts.sum())
    highs, lows = np.minimum(edges[half:], seen.high), np.maximum(edges[half::-1], seen.low)
    if symmetric:
        highs = np.minimum(edges[half:], max(seen.high, -seen.low))
        lows = -highs
    above, below = _tail(counts[half:], edges[half:], highs), _tail(counts[:half][::-1], -edges[half::-1], -lows)
    if symmetric:
        errors = above[0] + below[0] + (total - above[1] - below[1]) * (2 * highs / (ACTIVATION_LEVELS - 1)) ** 2 / 12
        end = float(highs[np.argmin(errors)])
        return Range(-end, end)
    least, found = np.inf, seen
    for number in np.unique(lows, return_index=True)[1]:
        step = (highs - lows[number]) / ACTIVATION_LEVELS
        errors = above[0] + below[0][number] + (total - above[1] - below[1][number]) * step**2 / 12
        best = int(np.argmin(errors))
        if errors[best] < least:
            least, found = errors[best], Range(float(lows[number]), float(highs[best]))
    return found


def _tail(counts: np.ndarray, edges: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for a range that ends at each edge, the squared distances of what lies beyond, summed, and how many that are.

    Bins (n,) count outwards from 0, edges and ends are (n + 1,); a bin's values are taken to be at its middle.
    """
    middles = (edges[:-1] + edges[1:]) / 2

    def outer(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])

    number, first, second = outer(counts.astype(float)), outer(counts * middles), outer(counts * middles**2)
    return np.maximum(second - 2 * ends * first + ends**2 * number, 0.0), number


def entropy(counts: np.ndarray, bound: float, levels: int = ENTROPY_LEVELS) -> Range:
    """Return the symmetric range that loses the least information by clipping and rounding.

    TensorRT's calibration (Migacz 2017, "8-bit inference with TensorRT"): for every number of bins of the absolute values
    from `levels` on, P is what they hold, what lies beyond added to the last; Q is the same bins without what lies beyond,
    merged into `levels` and spread evenly over those that are not empty; the range is that of the least KL(P || Q).
    """
    half = len(counts) // 2
    absolute = (counts[half:] + counts[:half][::-1]).astype(float)
    last = int(np.flatnonzero(absolute)[-1]) + 1
    best, least = last, np.inf
    for bins in range(levels, last + 1):
        found = _divergence(absolute, bins, levels)
        if found < least:
            best, least = bins, found
    end = bound * best / half
    return Range(-end, end)


def _divergence(absolute: np.ndarray, bins: int, levels: int) -> float:
    inside = absolute[:bins]
    clipped = inside.copy()
    clipped[-1] += absolute[bins:].sum()
    starts = np.arange(levels) * bins // levels
    filled = inside > 0
    merged, places = np.add.reduceat(inside, starts), np.add.reduceat(filled.astype(float), starts)
    spread = np.repeat(merged / np.maximum(places, 1), np.diff(starts, append=bins)) * filled
    some = clipped > 0
    if not spread.any() or (spread[some] == 0).any():
        return np.inf
    p, q = clipped[some] / clipped.sum(), spread[some] / spread.sum()
    return float((p * np.log(p / q)).sum())


def stream_activations(
    model: onnx.ModelProto, names: Sequence[str], data: Encoded, use: Callable[[dict[str, np.ndarray]], None], label: str
) -> None:
    """Run a graph over all examples and hand `use` the values named, batch by batch: (n, channels) of real tokens."""
    if not names:
        return
    session = open_session(expose_values(model, names).SerializeToString(), None, "cpu", {})
    inputs = [entry.name for entry in session.get_inputs()]
    batches = evaluation_batches(data.lengths, max(1, BATCH_TOKENS // int(data.lengths.max())))
    with console.progress(label, len(batches)) as advance:
        for positions in batches:
            batch = data.batch(positions)
            values = session.run(list(names), {name: batch[name] for name in inputs})
            use({name: real_rows(value, batch["attention_mask"]) for name, value in zip(names, values, strict=True)})
            advance()


def real_rows(value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the rows of real tokens, (n, channels).

    `value` is (batch, length, channels), or rows of all tokens in turn; what has another number of rows (first tokens, or
    tokens without padding) has no padding.
    """
    rows = value.reshape(-1, value.shape[-1])
    return rows[mask.astype(bool).ravel()] if len(rows) == mask.size else rows


def expose_values(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a graph with values inside it as further outputs."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    have = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in have)
    return shown


def histograms(model: onnx.ModelProto, names: Sequence[str], data: Encoded) -> dict[str, Histogram]:
    """Return the histogram of each value named, over all real tokens of `data`."""
    names = list(dict.fromkeys(names))
    found: dict[str, Histogram] = {name: Histogram() for name in names}

    def count(values: dict[str, Any]) -> None:
        for name, rows in values.items():
            found[name].add(rows)

    stream_activations(model, names, data, count, "calibrating")
    return found
