"""How many steps a training has and when it validates: from a number of epochs, or from a time budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compress.training.budget import VALIDATION_SHARE, TimeBudget

UNKNOWN_STEPS = 1_000_000  # assumed number of steps until the first one is timed


@dataclass
class StepTimes:
    """What a training with a time budget has measured so far; part of its saved state."""

    done: int = 0  # steps
    timed: int = 0  # those of them in `seconds`
    seconds: float = 0.0
    last_validated: int = 0  # number of steps at the last validation


class StepSchedule:
    """The number of steps of a training: `epochs * per_epoch`, or, with a time budget, as many as fit into it.

    With a budget the number is estimated again before every step, from the mean time of the steps so far (without the first, which
    is slower). So the learning rate reaches zero when the time is over: linear decay to the end of the budget (Li et al. 2020,
    arXiv 1905.04753).

    Args:
        per_epoch: steps per epoch.
        epochs: their number, without a budget.
        budget: the time limit.
        times: what earlier processes of the same training measured; updated in place.
    """

    def __init__(self, per_epoch: int, epochs: int | None, budget: TimeBudget | None, times: StepTimes) -> None:
        self.per_epoch, self.budget, self.times = per_epoch, budget, times
        self.total = UNKNOWN_STEPS if epochs is None else epochs * per_epoch
        self._step_started = 0.0

    def begin_step(self, step: int) -> int:
        """Return the total number of steps, as estimated before step number `step` (from 0)."""
        if self.budget is not None:
            self._step_started = self.budget.elapsed()
            if self.times.timed:
                self.total = step + max(0, self._remaining_steps(step, self.budget))
        return self.total

    def end_step(self) -> None:
        """Record the time of the step that `begin_step` announced."""
        if self.budget is not None:
            times = self.times
            times.done += 1
            if times.done == 2:  # from now on the first step's time is ignored
                times.timed, times.seconds = 0, 0.0
            times.timed += 1
            times.seconds += self.budget.elapsed() - self._step_started

    def _remaining_steps(self, step: int, budget: TimeBudget) -> int:
        """Estimate how many more steps fit into the budget together with the validations between them."""
        times, validation, remaining = self.times, budget.validation, budget.remaining()
        step_seconds = max(1e-9, times.seconds / times.timed)
        epochs_between = max(1, math.ceil(validation * (1 / VALIDATION_SHARE - 1) / (step_seconds * self.per_epoch)))
        interval = self.per_epoch * epochs_between  # steps between two validations
        until_first = (interval - (step - times.last_validated) % interval) * step_seconds
        if remaining > until_first:
            validations = 1 + int((remaining - until_first) / (interval * step_seconds + validation))
            remaining -= validations * validation
        return math.floor(remaining / step_seconds + 0.5)

    def should_validate(self, step: int) -> bool:
        """Return whether to validate at the end of an epoch, after `step` steps: with a budget, only as often as it allows."""
        if self.budget is None or step >= self.total:
            return True
        trained = (step - self.times.last_validated) * self.times.seconds / max(1, self.times.timed)
        least = (1 / VALIDATION_SHARE - 1) * self.budget.validation
        return trained >= least and self.budget.remaining() - self.budget.validation >= least

    def record_validation(self, seconds: float) -> None:
        """Update the time that a validation takes; it is not part of the steps' time."""
        if self.budget is not None:
            if self.budget.final_scoring == self.budget.validation:  # the same scoring is repeated after training
                self.budget.final_scoring = seconds
            self.budget.validation = seconds
