"""Interleaved rounds: in each, every candidate runs once, in shuffled order, one at a time."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np

from compress.benchmark.statistics import median_ratio
from compress.core import console
from harness.workers import Batch, WorkerFailed

MIN_ROUNDS = 5
CONTROL = "A/A control"
Times = dict[str, np.ndarray]


class Timed(Protocol):
    """A worker that can be timed."""

    def prepare(self, key: str, batch: Batch, warm_ups: int) -> None:
        """Take a batch and warm up on it."""
        ...

    def seconds(self, key: str) -> float:
        """Run it; returns the seconds."""
        ...


def measure(
    workers: dict[str, Timed], key: str, batch: Batch, rounds: int, seconds: float, warm_ups: int, rng: np.random.Generator
) -> tuple[Times, dict[str, str]]:
    """Time every worker on one batch; returns the seconds of each, (rounds,), and the errors of those that failed.

    A worker that fails is not timed again. Stops early at the time limit, but never before five rounds.
    """
    failed: dict[str, str] = {}
    names = list(workers)
    for name in names:
        try:
            workers[name].prepare(key, batch, warm_ups)
        except WorkerFailed as error:
            failed[name] = error.message
    samples: dict[str, list[float]] = {name: [] for name in names}
    deadline = time.monotonic() + seconds
    with console.progress(key, rounds) as advance:
        for number in range(rounds):
            for position in rng.permutation(len(names)):
                name = names[position]
                if name in failed:
                    continue
                try:
                    samples[name].append(workers[name].seconds(key))
                except WorkerFailed as error:
                    failed[name] = error.message
            advance()
            if number + 1 >= MIN_ROUNDS and time.monotonic() > deadline:
                break
    return {name: np.array(values) for name, values in samples.items() if name not in failed}, failed


def describe(times: Times, first: str) -> dict[str, dict[str, Any]]:
    """Return each candidate's latency, and its speedup over the first: the median of the round-by-round ratios."""
    described = {}
    for name, seconds in times.items():
        ratio, interval = median_ratio(times[first], seconds)
        p50, p90 = np.percentile(1e3 * seconds, [50, 90])
        described[name] = {
            "rounds": len(seconds),
            "latency_ms": {"p50": float(p50), "p90": float(p90), "mean": float(1e3 * seconds.mean())},
            "speedup": {"vs": first, "ratio": ratio, "ci95": list(interval)},
        }
    return described
