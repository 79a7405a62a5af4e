"""Rounds: shuffled, complete, bounded; a candidate that fails leaves the others alone."""

from __future__ import annotations

import numpy as np
import pytest
from harness import rounds
from harness.rounds import MIN_ROUNDS
from harness.workers import Batch, WorkerFailed


class Fake:
    """A candidate that always takes `cost` seconds, and writes down when it was asked."""

    def __init__(self, name: str, cost: float, log: list[str], fails_at: int | None = None) -> None:
        self.name, self.cost, self.log, self.fails_at = name, cost, log, fails_at
        self.asked = 0

    def prepare(self, key: str, batch: Batch, warm_ups: int) -> None:
        if self.fails_at == 0:
            raise WorkerFailed("cannot take it")

    def seconds(self, key: str) -> float:
        self.asked += 1
        if self.fails_at is not None and self.asked >= self.fails_at:
            raise WorkerFailed("gone")
        self.log.append(self.name)
        return self.cost


def measure(fakes: list[Fake], count: int = 20, seconds: float = 60.0) -> tuple[rounds.Times, dict[str, str]]:
    return rounds.measure({fake.name: fake for fake in fakes}, "k", {}, count, seconds, 1, np.random.default_rng(0))


def test_every_round_has_every_candidate_once_in_shuffled_order() -> None:
    log: list[str] = []
    times, failed = measure([Fake(name, 1.0, log) for name in "abc"])
    orders = {"".join(log[start : start + 3]) for start in range(0, 60, 3)}
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(orders) >= 4
    assert not failed
    assert {len(found) for found in times.values()} == {20}


def test_the_time_limit_leaves_enough_rounds() -> None:
    log: list[str] = []
    times, _ = measure([Fake("a", 1.0, log)], seconds=0.0)
    assert len(times["a"]) == MIN_ROUNDS


@pytest.mark.parametrize(("fails_at", "reason"), [(0, "cannot take it"), (3, "gone")])
def test_a_failure_is_a_reason_and_not_an_end(fails_at: int, reason: str) -> None:
    log: list[str] = []
    times, failed = measure([Fake("a", 1.0, log), Fake("b", 1.0, log, fails_at)])
    assert failed == {"b": reason}
    assert list(times) == ["a"]
    assert len(times["a"]) == 20


def test_speedup_is_the_median_of_the_ratios() -> None:
    drift = np.array([1.0, 2.0, 1.0, 4.0, 1.0])
    described = rounds.describe({"a": 0.010 * drift, "b": 0.005 * drift}, "a")
    assert described["b"]["speedup"] == {"vs": "a", "ratio": pytest.approx(2.0), "ci95": pytest.approx([2.0, 2.0])}
    assert described["a"]["latency_ms"]["p50"] == pytest.approx(10.0)
