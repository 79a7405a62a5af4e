"""Time several runners in turns, so that a machine that slows down slows all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from compress.benchmark.microbenchmark import WARM_UPS
from compress.benchmark.runners import Runner

MIN_ROUNDS = 5
Times = dict[str, np.ndarray]
"""The seconds of each runner by name, (rounds,)."""


def interleaved(
    runners: Mapping[str, Runner],
    batches: Mapping[str, Sequence[object]],
    rounds: int,
    seconds: float,
    rng: np.random.Generator,
    advance: Callable[[], None],
) -> Times:
    """Time runners in turns; in a round each runs once, in shuffled order, after one call that warms the caches.

    Args:
        runners: by name.
        batches: the prepared batches of each runner; round i takes batch i modulo their number.
        rounds: the number of rounds.
        seconds: stop after this time, but not before `MIN_ROUNDS`.
        rng: for the order.
        advance: called after each round.
    """
    names = list(runners)
    for name in names:
        for number in range(WARM_UPS):
            runners[name].seconds(batches[name][number % len(batches[name])])
    samples: dict[str, list[float]] = {name: [] for name in names}
    deadline = time.monotonic() + seconds
    collected = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            for position in rng.permutation(len(names)):
                name = names[position]
                prepared = batches[name][number % len(batches[name])]
                runners[name].seconds(prepared)
                samples[name].append(runners[name].seconds(prepared))
            advance()
            if number + 1 >= MIN_ROUNDS and time.monotonic() > deadline:
                break
    finally:
        if collected:
            gc.enable()
    return {name: np.array(values) for name, values in samples.items()}
