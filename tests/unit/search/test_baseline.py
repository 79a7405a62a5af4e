"""The start of a search: what it needs at least, and that small budgets are refused or kept (a simulated clock)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress.core.errors import UsageError
from compress.search.baseline import DOUBT, check_budget, first_steps, least_seconds
from compress.search.choice import choose
from compress.search.verdict import judge
from tests.unit.search.landscape import FakeLab, Landscape, search_on
from tests.unit.search.study import landscapes


def test_the_first_steps_are_the_baseline_and_the_verdict() -> None:
    lab = FakeLab(Landscape())
    trials = search_on(lab).trials
    steps = first_steps(trials)
    assert [step.kind for step in steps] == ["start", "train", "quantize", "eval", "bench", "eval", "finish"]
    assert not lab.ran
    assert not trials.space.stages
    assert least_seconds(trials, steps, doubtful=True) > least_seconds(trials, steps) > 100


def test_a_budget_that_does_not_hold_them_is_refused() -> None:
    trials = search_on(FakeLab(Landscape()), budget=60).trials
    with pytest.raises(UsageError, match=r"a budget of 1 min 0 s is less than the start of a search takes here: up to .* min") as caught:
        check_budget(trials, first_steps(trials))
    assert "type --budget" in (caught.value.hint or "")
    assert "fine-tuned already" in (caught.value.hint or "")
    trained = search_on(FakeLab(Landscape()), budget=20, trained=True).trials
    with pytest.raises(UsageError, match="for the baseline in int8, evaluating it, timing it, the verdict, writing the result") as caught:
        check_budget(trained, first_steps(trained))
    assert "fine-tuned already" not in (caught.value.hint or "")


def test_what_is_in_the_store_takes_no_time() -> None:
    lab = FakeLab(Landscape())
    search_on(lab).run()
    again = search_on(FakeLab(Landscape(), lab.store), budget=60).trials
    steps = first_steps(again)
    assert [step.stored for step in steps] == [False, True, True, True, True, False, False]
    check_budget(again, steps)


def test_learned_costs_leave_less_doubt() -> None:
    trials = search_on(FakeLab(Landscape())).trials
    unknown = least_seconds(trials, first_steps(trials), doubtful=True)
    assert unknown == pytest.approx(5 + DOUBT * (least_seconds(trials, first_steps(trials)) - 5))
    for kind in ("train", "quantize", "eval", "bench", "finish"):
        trials.costs.learn(kind, 100.0, 60.0)
    steps = first_steps(trials)
    assert least_seconds(trials, steps, doubtful=True) == least_seconds(trials, steps)


class SlowLab(FakeLab):
    """A lab on a machine where everything takes `pace` times as long."""

    pace = 1.0

    def _made(self, stages: Any, name: str) -> tuple[dict[str, Any], float]:
        manifest, seconds = super()._made(stages, name)
        return manifest, self.pace * seconds


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_a_budget_is_kept_within_a_tenth(seed: int, trained: bool) -> None:
    """Whatever the budget: it is refused, or the search ends with an answer, its verdict included, at most 10 % later."""
    rng = np.random.default_rng(seed)
    answered = 0
    for truth in landscapes(8):
        lab = SlowLab(truth)
        lab.pace = rng.uniform(0.5, 1.1)
        budget = float(np.exp(rng.uniform(np.log(20), np.log(3600))))
        search = search_on(lab, budget=budget, trained=trained, students=("static",) if rng.random() < 0.5 else ())
        try:
            check_budget(search.trials, first_steps(search.trials))
        except UsageError:
            assert not lab.ran
            continue
        search.run()
        answer, _ = choose(search.trials)
        judge(search.trials, answer)
        assert lab.spent() + 10 * lab.pace <= 1.1 * budget, (budget, search.trials.log)
        answered += answer.servable
    assert answered


def test_a_start_that_takes_too_long_ends_with_the_float_graph() -> None:
    lab = SlowLab(Landscape())
    search = search_on(lab, budget=300)
    check_budget(search.trials, first_steps(search.trials))
    lab.pace = 3.0
    search.run()
    answer, kept = choose(search.trials)
    assert (answer.model, kept) == ("baseline-graph", True)
    assert "no time for an int8 form" in search.trials.log[-1]
