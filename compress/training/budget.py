"""How long a training is, and how its learning rate goes: a number of epochs, or what fits into a span of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from compress.core import console
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.inference.batches import Forward
from compress.settings import TrainSettings

VALIDATION_SHARE = 0.2  # of the time, at most, goes into validation between epochs
BATCH = 32  # as validation has it
SAMPLE = 4  # of its batches, whose time tells that of all
RESERVE = 0.01  # of a budget, for writing the model
GUESS = 1_000_000  # steps, as long as nothing is measured


class Budget:
    """The time that a stage has, from when it begins to when its model is written.

    Args:
        seconds: all of it.
        clock: tells the time in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock, self.started = seconds, clock, clock()
        self.before = 0.0  # seconds that were spent before the process was killed
        self.validation = 0.0  # seconds that one validation takes
        self.scoring = 0.0  # seconds that the measurement after training takes

    @staticmethod
    def of(settings: TrainSettings) -> Budget | None:
        """Start the clock where the settings have a budget."""
        return Budget(settings.budget_seconds) if settings.budget_seconds else None

    def spent(self) -> float:
        """Return the seconds that are gone."""
        return self.before + self.clock() - self.started

    def left(self) -> float:
        """Return the seconds that training itself may still take, the last validation and what comes after it left out."""
        return (1 - RESERVE) * self.seconds - self.spent() - self.validation - self.scoring

    def scores_take(self, validation: float, after: float) -> None:
        """Set aside the time of scoring: of one validation, and of what is measured after training."""
        self.validation, self.scoring = validation, after
        if validation + after > VALIDATION_SHARE * self.seconds:
            told = (
                f"scoring the validation split takes about {console.duration(validation + after)} of the {console.duration(self.seconds)}"
            )
            console.warn(f"{told} that there are: a smaller one (--validation) leaves more for training")


def schedule(step: int, total: int, warmup: float) -> float:
    """Return the share of the peak learning rate at `step` of `total`: linear up, then linear down to zero."""
    rising = max(1, math.ceil(total * warmup)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    return (total - step) / max(1, total - rising)


class Pace:
    """How many steps a training has: `epochs` times `per_epoch`, or, where there is a budget, what fits into it.

    With a budget the number is fitted anew before every step, to the mean time of the steps so far (the first aside, which is slower),
    so that the learning rate reaches zero when the time is over (Li et al. 2020, arXiv 1905.04753: linear decay to the budget's end).

    Args:
        per_epoch: steps of an epoch.
        epochs: how many, where there is no budget.
        budget: the time that there is.
        measured: what was measured before the process was killed; kept up to date.
    """

    def __init__(self, per_epoch: int, epochs: int | None, budget: Budget | None, measured: dict[str, float]) -> None:
        self.per_epoch, self.budget, self.measured = per_epoch, budget, measured
        self.total = GUESS if epochs is None else epochs * per_epoch
        for key in ("taken", "steps", "seconds", "validated"):  # steps; those of them that count, their time; the last one validated
            measured.setdefault(key, 0)
        self._begun = 0.0

    def begin(self, step: int) -> int:
        """Return the number of steps, as far as is known before step `step` (from 0)."""
        if self.budget is not None:
            self._begun = self.budget.spent()
            if self.measured["steps"]:
                self.total = step + max(0, self._ahead(step, self.budget))
        return self.total

    def end(self) -> None:
        """Note that a step is done."""
        if self.budget is not None:
            self.measured["taken"] += 1
            if self.measured["taken"] == 2:  # what the first step took counts only as long as there is no other
                self.measured |= {"steps": 0, "seconds": 0.0}
            self.measured["steps"] += 1
            self.measured["seconds"] += self.budget.spent() - self._begun

    def _ahead(self, step: int, budget: Budget) -> int:
        """Return how many more steps fit, after what the validations between them take."""
        each, left, validation = max(1e-9, self.measured["seconds"] / self.measured["steps"]), budget.left(), budget.validation
        every = self.per_epoch * max(1, math.ceil(validation * (1 / VALIDATION_SHARE - 1) / (each * self.per_epoch)))
        first = (every - (step - self.measured["validated"]) % every) * each
        if left > first:
            count = 1 + int((left - first) / (every * each + validation))
            left -= count * validation
        return math.floor(left / each + 0.5)

    def validates(self, step: int) -> bool:
        """Tell whether the model is scored at the end of an epoch: with a budget, not more often than it can afford."""
        if self.budget is None or step >= self.total:
            return True
        since = (step - self.measured["validated"]) * self.measured["seconds"] / max(1, self.measured["steps"])
        rest = (1 / VALIDATION_SHARE - 1) * self.budget.validation
        return since >= rest and self.budget.left() - self.budget.validation >= rest

    def validated(self, seconds: float) -> None:
        """Note how long scoring the model took; it is no part of the steps' time."""
        if self.budget is not None:
            if self.budget.scoring == self.budget.validation:  # the same is measured again after training
                self.budget.scoring = seconds
            self.budget.validation = seconds


def scoring_seconds(forward: Forward, data: Encoded, clock: Callable[[], float] = time.monotonic) -> float:
    """Return about how long `forward` takes for all of the data, by timing it on a few of its batches, short and long."""
    batches = evaluation_batches(data.lengths, BATCH)
    count = min(SAMPLE, len(batches))
    timed = [batches[int((number + 0.5) * len(batches) / count)] for number in range(count)]
    forward(data.batch(timed[0]))  # the first pass is slower
    started = clock()
    for positions in timed:
        forward(data.batch(positions))

    def tokens(some: list[np.ndarray]) -> int:
        return sum(len(positions) * int(data.lengths[positions].max()) for positions in some)  # padding takes time, too

    return (clock() - started) * tokens(batches) / tokens(timed)
