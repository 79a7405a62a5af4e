"""Short timings on random tokens, which searches use: one model, or two against each other."""

from __future__ import annotations

import time

import numpy as np

from compress.benchmark.runners import ArrayBatch, ClockRunner
from compress.benchmark.statistics import median_ratio
from compress.inference.batches import Forward

WARM_UPS = 3
MAX_ROUNDS, MIN_SPEEDUP_ROUNDS, MAX_SECONDS = 100, 20, 4.0


def measure_speedup(before: Forward, after: Forward, batch: ArrayBatch, rounds: int = MAX_ROUNDS) -> tuple[float, list[float]]:
    """Time two models in turns; returns the speedup of `after` over `before` and its 95 % interval.

    Slow models get fewer rounds: as many as fit into `MAX_SECONDS`, but at least `MIN_SPEEDUP_ROUNDS`.
    """
    runners = [ClockRunner(before), ClockRunner(after)]
    samples: list[list[float]] = []
    started = time.monotonic()
    for number in range(-WARM_UPS, rounds):
        row = []
        for runner in runners:
            runner.seconds(batch)
            row.append(runner.seconds(batch))
        if number >= 0:
            samples.append(row)
        if len(samples) >= MIN_SPEEDUP_ROUNDS and time.monotonic() - started > MAX_SECONDS:
            break
    seconds = np.array(samples)  # (rounds, 2)
    ratio, interval = median_ratio(seconds[:, 0], seconds[:, 1])
    return ratio, list(interval)


def median_seconds(forward: Forward, batch: ArrayBatch, runs: int = 40) -> float:
    """Return the median seconds of a forward function on a batch, with warm caches."""
    runner = ClockRunner(forward)
    return float(np.median([runner.seconds(batch) for _ in range(WARM_UPS + runs)][WARM_UPS:]))


def random_batch(rng: np.random.Generator, vocab_size: int, batch_size: int, length: int) -> ArrayBatch:
    """Return a batch of random token ids without padding: latency does not depend on which tokens they are."""
    ids = rng.integers(min(1000, vocab_size // 2), vocab_size, (batch_size, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
