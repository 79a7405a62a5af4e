"""How many steps fit into a time budget, and when it validates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.training.budget import WRITE_SHARE, TimeBudget
from compress.training.learning_rate import warmup_linear_decay
from compress.training.step_schedule import StepSchedule, StepTimes
from tests.unit.training.clock import Clock


def simulate(seconds: float, step: Any, validation: float, per_epoch: int, guess: float | None = None) -> dict[str, Any]:
    """Run a schedule as the training loop does: step k takes `step(k)` seconds, a validation is first estimated as `guess`."""
    clock = Clock()
    budget = TimeBudget(seconds, clock)
    budget.reserve(*[validation if guess is None else guess] * 2)
    schedule = StepSchedule(per_epoch, None, budget, StepTimes())
    done, shares, validations, over = 0, [], [], False
    while not over:
        for _ in range(per_epoch):
            total = schedule.begin_step(done)
            if done >= total:
                break
            shares.append(warmup_linear_decay(done, total, 0.1))
            clock.now += step(done)
            done += 1
            schedule.end_step()
        over = done >= schedule.begin_step(done)
        if schedule.should_validate(done) and schedule.times.last_validated != done:
            clock.now += validation
            schedule.record_validation(validation)
            schedule.times.last_validated = done
            validations.append(done)
    clock.now += validation  # the final scoring
    return {"spent": clock.now - 1000, "steps": done, "shares": shares, "validations": validations}


@given(st.floats(0.05, 2.0), st.floats(0.0, 5.0), st.integers(1, 300), st.integers(0, 1000))
def test_the_budget_is_kept_whatever_steps_and_validations_take(each: float, validation: float, per_epoch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcome = simulate(100.0, lambda step: (5 if step == 0 else 1) * each * rng.uniform(0.5, 1.5), validation, per_epoch)
    assert 90 <= outcome["spent"] <= 100 + 1.5 * each
    assert outcome["validations"][-1] == outcome["steps"]  # the last weights are validated
    assert validation * len(outcome["validations"][:-1]) <= 0.25 * 100


def test_the_learning_rate_follows_the_number_of_steps_that_fit() -> None:
    """Steps of one second, no validation: 99 of 100 seconds, the warm-up by the tenth of them."""
    outcome = simulate(100.0, lambda step: 1.0, 0.0, 1000)
    assert outcome["steps"] == 99 == round(100 * (1 - WRITE_SHARE))
    expected = [warmup_linear_decay(step, 99, 0.1) for step in range(99)]
    assert outcome["shares"][1:] == pytest.approx(expected[1:])  # the number is unknown before the first step


@given(st.floats(0.2, 2.0), st.integers(5, 200), st.integers(0, 99))
def test_the_learning_rate_ends_near_zero(each: float, per_epoch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    outcome = simulate(200.0, lambda step: each * rng.uniform(0.8, 1.2), 1.0, per_epoch)
    assert all(0 < share <= 1 for share in outcome["shares"])
    assert max(outcome["shares"]) > 0.9
    assert outcome["shares"][-1] < 0.1


def test_a_machine_that_slows_down_still_ends_in_time() -> None:
    outcome = simulate(100.0, lambda step: 0.5 if step < 60 else 2.0, 1.0, 20)
    assert 90 <= outcome["spent"] <= 102.5


def test_the_first_validation_corrects_the_estimate() -> None:
    outcome = simulate(100.0, lambda step: 0.1, 3.0, 100, guess=0.1)
    assert 90 <= outcome["spent"] <= 103.5


def test_at_least_one_step() -> None:
    assert simulate(1.0, lambda step: 10.0, 1.0, 5)["steps"] == 1


def test_without_a_budget_the_epochs_decide() -> None:
    schedule = StepSchedule(7, 3, None, StepTimes())
    assert (schedule.begin_step(0), schedule.begin_step(20)) == (21, 21)
    schedule.end_step()
    assert schedule.times == StepTimes()
    assert schedule.should_validate(7)
