"""A stage's time budget, and an estimate of how long validation takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from compress.core import console
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.inference.batches import Forward
from compress.settings import TrainSettings

VALIDATION_SHARE = 0.2  # maximum share of the budget for validation between epochs
WRITE_SHARE = 0.01  # share of the budget reserved for writing the model
BATCH = 32  # batch size of validation
SAMPLE = 4  # validation batches timed to estimate the time of all


class TimeBudget:
    """The time limit of a stage, from its start until its model is written.

    Attributes:
        seconds: the limit.
        clock: returns the current time in seconds.
        earlier: seconds used by earlier processes of the same stage, which were killed.
        validation: seconds that one validation takes.
        final_scoring: seconds that scoring after training takes.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock, self.started = seconds, clock, clock()
        self.earlier = self.validation = self.final_scoring = 0.0

    @staticmethod
    def of(settings: TrainSettings) -> TimeBudget | None:
        """Start the clock if the settings have a budget."""
        return TimeBudget(settings.budget_seconds) if settings.budget_seconds else None

    def elapsed(self) -> float:
        """Return the seconds used so far."""
        return self.earlier + self.clock() - self.started

    def remaining(self) -> float:
        """Return the seconds available for training steps, after the last validation and everything that follows it."""
        return (1 - WRITE_SHARE) * self.seconds - self.elapsed() - self.validation - self.final_scoring

    def reserve(self, validation: float, final_scoring: float) -> None:
        """Reserve the seconds of one validation and of scoring after training; warn if they are a large share of the budget."""
        self.validation, self.final_scoring = validation, final_scoring
        if validation + final_scoring > VALIDATION_SHARE * self.seconds:
            console.warn(
                f"validation takes about {console.duration(validation + final_scoring)} of the time budget of "
                f"{console.duration(self.seconds)}: use a smaller validation split (--validation) to leave more time for training"
            )


def estimate_scoring_seconds(forward: Forward, data: Encoded, clock: Callable[[], float] = time.monotonic) -> float:
    """Estimate how many seconds `forward` takes for all of the data, from a sample of short and long batches."""
    batches = evaluation_batches(data.lengths, BATCH)
    count = min(SAMPLE, len(batches))
    sample = [batches[int((number + 0.5) * len(batches) / count)] for number in range(count)]
    forward(data.batch(sample[0]))  # warm-up
    started = clock()
    for positions in sample:
        forward(data.batch(positions))

    def padded_tokens(batches: Sequence[np.ndarray]) -> int:
        return sum(len(positions) * int(data.lengths[positions].max()) for positions in batches)

    return (clock() - started) * padded_tokens(batches) / padded_tokens(sample)
