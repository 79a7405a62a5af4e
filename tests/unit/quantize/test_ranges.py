"""Histograms that grow, and the ranges that are calibrated from them, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.models.int8_ranges import Range
from compress.quantize import ranges
from compress.quantize.ranges import CalibrationMethod, Histogram, calibrated_range, entropy, mse, percentile

SHAPES = ["normal", "gelu", "outliers", "one_sided"]


def values_of(shape: str, count: int = 20_000, seed: int = 0) -> np.ndarray:
    """Return float32 values as activations have them, (count / 10, 10)."""
    rng = np.random.default_rng(seed)
    plain = rng.normal(size=count)
    found = {
        "normal": plain,
        "gelu": np.where(plain > 0, plain, 0.1 * plain * np.exp(plain)),
        "outliers": np.where(rng.random(count) < 1e-3, 40 * plain, plain),
        "one_sided": np.abs(plain),
    }[shape]
    return found.reshape(-1, 10).astype(np.float32)


def histogram_of(*batches: np.ndarray) -> Histogram:
    """Count batches one after the other."""
    found = Histogram()
    for batch in batches:
        found.add(batch)
    return found


@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=6), st.integers(0, 1000))
def test_no_value_is_lost_or_moved_however_the_range_grows(sizes: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    batches = [(rng.normal(size=(30, 4)) * size).astype(np.float32) for size in sizes]
    found, everything = histogram_of(*batches), np.concatenate(batches)
    assert found.counts.sum() == everything.size
    assert len(found.counts) == ranges.BINS
    assert (found.low, found.high) == (everything.min(), everything.max())
    np.testing.assert_array_equal(found.channels, np.abs(everything).max(axis=0))
    assert np.abs(everything).max() <= found.bound * (1 + 1e-6)
    direct = np.histogram(everything.astype(np.float64), bins=found.edges)[0]
    # A value within a rounding error of an edge may be counted on its other side; none farther than that.
    assert np.abs(np.cumsum(found.counts) - np.cumsum(direct)).max() <= 2


def test_the_order_of_batches_does_not_matter() -> None:
    """The bound is that of the first batch, doubled; here it is the same. A value on the bound of its time is in the bin below."""
    large, small = np.array([[64.0, -3.0]], dtype=np.float32), np.array([[1.0, 0.25]], dtype=np.float32)
    first, second = histogram_of(large, small), histogram_of(small, large)
    assert first.bound == second.bound == 64
    assert np.abs(np.cumsum(first.counts) - np.cumsum(second.counts)).max() <= 1


def test_nothing_and_zeros() -> None:
    for found in (histogram_of(), histogram_of(np.zeros((3, 2), dtype=np.float32)), histogram_of(np.empty((0, 4), dtype=np.float32))):
        for method in ("minmax", "percentile", "mse", "entropy"):
            assert calibrated_range(found, method) == Range(0.0, 0.0)
    grown = histogram_of(np.zeros((3, 2), dtype=np.float32), np.ones((1, 2), dtype=np.float32))
    assert grown.counts.sum() == 8
    assert grown.counts[ranges.BINS // 2] == 6


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_range_holds_zero_and_nothing_that_was_not_seen(method: CalibrationMethod, shape: str, symmetric: bool) -> None:
    values = values_of(shape)
    found = calibrated_range(histogram_of(values), method, symmetric)
    largest = np.abs(values).max() * (1 + 1e-6)
    assert found.low <= 0 <= found.high
    assert found.high > 0
    if symmetric:
        assert found.low == -found.high
        assert found.high <= largest
    else:
        assert found.low >= min(0, values.min())
        assert found.high <= values.max()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("percent", [90.0, 99.0, 99.9, 99.99])
def test_percentile_is_numpys_to_a_bin(shape: str, percent: float) -> None:
    values = values_of(shape)
    seen = histogram_of(values)
    found = percentile(seen.counts, seen.edges, percent)
    ordered = np.sort(values.ravel())
    cut = (1 - percent / 100) / 2
    # Between two neighbours every value has the same share on either side.
    for end, share in ((found.low, cut), (found.high, 1 - cut)):
        place = share * len(ordered)
        below, above = ordered[max(0, int(place) - 1)], ordered[min(len(ordered) - 1, int(np.ceil(place)))]
        assert below - seen.width <= end <= above + seen.width


def rounding_error(values: np.ndarray, found: Range, levels: int = 255) -> float:
    """Return the mean squared error of quantizing to a range, by doing it."""
    step = (found.high - found.low) / levels
    codes = np.clip(np.rint((values - found.low) / step), 0, levels)
    return float(np.mean((found.low + codes * step - values) ** 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_mse_is_as_good_as_any_range_tried(shape: str) -> None:
    values = values_of(shape).astype(np.float64)
    seen = histogram_of(values.astype(np.float32))
    found = calibrated_range(seen, "mse")
    low, high = min(0.0, values.min()), values.max()
    fractions = np.linspace(0.02, 1, 50)
    tried = [rounding_error(values, Range(a * low, b * high)) for a in (fractions if low < 0 else [0.0]) for b in fractions]
    assert rounding_error(values, found) <= 1.02 * min(tried)


def test_mse_by_the_formula_over_all_edges() -> None:
    """The sum that is searched at once, written out in loops."""
    rng = np.random.default_rng(0)
    edges, counts = np.linspace(-8, 8, 33), rng.integers(0, 100, 32) // (1 + np.abs(np.arange(32) - 16))
    middles, best = (edges[:-1] + edges[1:]) / 2, (np.inf, 0.0, 0.0)
    for low in edges[:17]:
        for high in edges[16:]:
            if high > low:
                beyond = np.where(middles > high, middles - high, np.where(middles < low, low - middles, 0.0))
                inside = (middles < high) & (middles > low)
                error = float((counts * (beyond**2 + inside * ((high - low) / 255) ** 2 / 12)).sum())
                best = min(best, (error, low, high))
    found = mse(counts, edges, Range(-8.0, 8.0))
    assert (found.low, found.high) == pytest.approx(best[1:])


@pytest.mark.parametrize("shape", SHAPES)
def test_symmetric_mse_is_as_good_as_any_bound_tried(shape: str) -> None:
    values = values_of(shape).astype(np.float64)
    found = calibrated_range(histogram_of(values.astype(np.float32)), "mse", symmetric=True)
    tried = [rounding_error(values, Range(-end, end), 254) for end in np.abs(values).max() * np.linspace(0.02, 1, 200)]
    # GELU's many values just below 0 lie within a step or two, where rounding is not S^2 / 12 on average.
    assert rounding_error(values, found, 254) <= 1.05 * min(tried)


def slow_entropy(counts: np.ndarray, bound: float, levels: int) -> float:
    """TensorRT's search, one bin at a time."""
    half = len(counts) // 2
    absolute = [int(counts[half + i]) + int(counts[half - 1 - i]) for i in range(half)]
    last = max(i for i in range(half) if absolute[i]) + 1
    best, least = last, np.inf
    for bins in range(levels, last + 1):
        p = [float(count) for count in absolute[:bins]]
        p[-1] += sum(absolute[bins:])
        q = [0.0] * bins
        for level in range(levels):
            members = [i for i in range(bins) if level * bins // levels <= i < (level + 1) * bins // levels]
            filled = [i for i in members if absolute[i]]
            for i in filled:
                q[i] = sum(absolute[j] for j in members) / len(filled)
        divergence = 0.0
        for a, b in zip(p, q, strict=True):
            if a:
                divergence += np.inf if b == 0 else a / sum(p) * np.log((a / sum(p)) / (b / sum(q)))
        if divergence < least:
            best, least = bins, divergence
    return bound * best / half


@given(st.integers(0, 10_000))
def test_entropy_is_the_slow_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.poisson(200 * np.exp(-np.abs(np.arange(96) - 48) / rng.uniform(3, 15)))
    counts[48] += 1
    found = entropy(counts, 6.0, levels=8)
    assert found.high == -found.low == pytest.approx(slow_entropy(counts, 6.0, 8))


def test_entropy_and_percentile_cut_outliers_off() -> None:
    values = values_of("normal", 100_000)
    values[0, 0] = 50
    seen = histogram_of(values)
    assert calibrated_range(seen, "minmax").high == 50
    assert calibrated_range(seen, "entropy").high < 10
    assert calibrated_range(seen, "percentile").high < 10


@pytest.mark.parametrize("end", [0.5, 1.0, 2.0, 10.0])
def test_the_share_beyond_a_range(end: float) -> None:
    values = values_of("normal")
    seen = histogram_of(values)
    assert seen.share_outside(calibrated_range(seen, "minmax")) == 0
    assert seen.share_outside(Range(-end, end)) == pytest.approx((np.abs(values) > end).mean(), abs=2e-3)
