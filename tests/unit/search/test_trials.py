"""Trials: what fits into the time, what is measured, what is learned."""

from __future__ import annotations

import pytest

from compress.search.race import Arm
from compress.search.trials import OutOfTime, Trials
from tests.unit.search.landscape import BASELINE_MS, FakeLab, Landscape, search_on


@pytest.fixture
def trials() -> Trials:
    """After the baseline, on a landscape without errors."""
    trials = search_on(FakeLab(Landscape(error=0.0))).trials
    trials.do(trials.space.add_baseline(3), "train", 650)
    trials.serve("baseline, int8", trials.space.add_int8("baseline-int8", "teacher"))
    return trials


def pruned(trials: Trials) -> Arm:
    trials.do(trials.space.add_family([2.0, 4.0]), "prune", 2)
    return Arm("4x", "slim/4x", 14.4, 0.4, None, model="slim/4x")


def test_a_served_candidate_is_measured_against_the_baseline(trials: Trials) -> None:
    (candidate,) = trials.candidates
    assert candidate.servable
    assert candidate.drop is not None
    assert candidate.drop.points == pytest.approx(0.2)
    assert trials.latency_ms(candidate.speed) == pytest.approx(BASELINE_MS / 3.6)
    assert trials.score == pytest.approx(0.88)
    assert candidate.verdict == "kept"


def test_what_does_not_fit_is_not_begun(trials: Trials) -> None:
    trials.require("baseline-int8", trials.left() - 1, "this")
    with pytest.raises(OutOfTime, match=r"that would take about .*, and .* are left for it"):
        trials.require("baseline-int8", trials.left() + 1, "that")


def test_time_is_reserved_for_the_final_forms(trials: Trials) -> None:
    before = trials.left()
    trials.forms = 2
    assert before - trials.left() == pytest.approx(2 * trials.serving_seconds())


def test_training_doubles_and_each_step_is_a_stage(trials: Trials) -> None:
    arm = pruned(trials)
    assert trials.train(arm, 4)
    assert (arm.units, arm.model) == (4, "student-4x-4")
    assert [name for name in trials.space.stages if name.startswith("student")] == ["student-4x-1", "student-4x-2", "student-4x-4"]
    assert trials.space.stages["student-4x-4"]["from"] == "student-4x-2"
    assert [candidate.name for candidate in trials.candidates[-2:]] == ["4x trained, 2 units", "4x trained, 4 units"]


def test_training_without_time_says_so(trials: Trials) -> None:
    arm = pruned(trials)
    trials.budget = trials.lab.spent() + trials.reserve() + 10
    assert not trials.train(arm, 1)
    assert "4x is not trained to 1 unit:" in trials.log[-1]


def test_the_first_training_also_computes_the_teachers_outputs(trials: Trials) -> None:
    arm = pruned(trials)
    before = trials.seconds_to(arm, 1)
    trials.train(arm, 1)
    other = Arm("2x", "slim/2x", 7.2, 0.4, None, model="slim/2x")
    assert trials.seconds_to(other, 1) < before
    assert trials.outputs == {("train", trials.space.unit().variants)}


def test_a_duel_is_paired(trials: Trials) -> None:
    arm = pruned(trials)
    trials.train(arm, 1)
    other = Arm("2x", "slim/2x", 7.2, 0.6, None, model="slim/2x")
    trials.train(other, 1)
    assert trials.loses_to(arm, other)
    assert not trials.loses_to(other, arm)


def test_a_dropped_arm_marks_its_candidate(trials: Trials) -> None:
    arm = pruned(trials)
    trials.train(arm, 1)
    trials.drop_arm(arm, "it is too slow")
    assert arm.out == "it is too slow"
    assert (trials.candidates[-1].verdict, trials.candidates[-1].why) == ("dropped", "it is too slow")
    assert not trials.train(arm, 2)
