"""Which runtime serves which batches, on given times."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.benchmark import tuning
from compress.benchmark.grid import Cell
from compress.benchmark.interleaving import Times
from compress.benchmark.runtime_routes import MIN_LOG_GAIN, compare_runtimes, routes


def best_by_trying(sizes: list[int], gains: dict[int, float]) -> float:
    """The best gain of at most one change, less what each size and the change must be worth."""
    result = []
    for limit, above in itertools.product([0, *sizes], (0, 1)):
        used = [size for size in sizes if (size > limit) == bool(above)]
        alone = len(used) in (0, len(sizes))
        result.append(sum(np.log(gains[size]) - MIN_LOG_GAIN for size in used) - (0 if alone else MIN_LOG_GAIN * len(sizes)))
    return max(result)


@given(st.dictionaries(st.integers(1, 4096), st.floats(0.2, 5.0), min_size=1, max_size=7))
def test_routes_are_the_best_of_all_with_one_change(gains: dict[int, float]) -> None:
    result = routes(list(gains), list(gains.values()), ("first", "second"))
    assert result[-1]["up_to"] is None
    assert len(result) <= 2
    limit = result[0]["up_to"] or 0
    sent = {size: result[0 if size <= limit else -1]["runtime"] for size in gains}
    reached = sum(np.log(gain) - MIN_LOG_GAIN for size, gain in gains.items() if sent[size] == "second")
    penalty = MIN_LOG_GAIN * len(gains) if len(result) == 2 else 0
    assert reached - penalty == pytest.approx(best_by_trying(sorted(gains), gains), abs=1e-9)


def test_a_small_gain_is_not_worth_a_second_runtime() -> None:
    assert routes([16, 128], [0.98, 1.02], ("a", "b")) == [{"up_to": None, "runtime": "a"}]
    assert routes([16, 128], [0.5, 2.0], ("a", "b")) == [{"up_to": 45, "runtime": "a"}, {"up_to": None, "runtime": "b"}]
    assert routes([16, 128], [2.0, 0.5], ("a", "b")) == [{"up_to": 45, "runtime": "b"}, {"up_to": None, "runtime": "a"}]
    assert routes([16, 32, 128], [0.5, 1.02, 2.0], ("a", "b")) == [{"up_to": 64, "runtime": "a"}, {"up_to": None, "runtime": "b"}]


def test_what_is_within_the_noise_does_not_choose_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [Cell(1, 1, 16), Cell(1, 8, 128)]

    spread = {"now": 1.0}

    def fake(runners: Any, batches: Any, rounds: int, limit: float, rng: np.random.Generator, advance: Any) -> Times:
        first, second = runners  # the second is 10 % faster, more or less
        return {first: np.full(41, 1.1), second: np.exp(spread["now"] * np.linspace(-1, 1, 41))}

    monkeypatch.setattr(tuning, "interleaved", fake)
    runtimes: Any = {"a": lambda threads: lambda batch: None, "b": lambda threads: lambda batch: None}
    result, entries = compare_runtimes(runtimes, lambda cell: {}, cells)
    assert all(entry["speedup"] > 1.05 and entry["ci95"][0] < 1 < entry["ci95"][1] for entry in entries)
    assert result == [{"up_to": None, "runtime": "a"}]
    spread["now"] = 0.01
    assert compare_runtimes(runtimes, lambda cell: {}, cells)[0] == [{"up_to": None, "runtime": "b"}]
