"""The choice of the answer: one rule for what keeps the limit, by what was measured and what was expected."""

from __future__ import annotations

from typing import Any

import pytest

from compress.search.candidates import SearchCandidate, Speed
from compress.search.choice import choose
from compress.search.estimates import NORMAL, SAFE, Drop
from compress.search.trials import Trials
from tests.unit.search.landscape import FakeLab, Landscape, search_on


def artifact(name: str, gain: float | None, points: float, expected: float | None = None, error: float = 0.6) -> SearchCandidate:
    """Return a model that could be the answer; an expectation is as certain as the measurement."""
    speed = Speed(gain or 30.0, (1.0, 2.0))
    before = None if expected is None else Drop(expected, error, 872)
    return SearchCandidate(name, name, gain, Drop(points, error, 872), speed, size_mb=10.0, expected=before)


def trials_with(*candidates: SearchCandidate, **objective: Any) -> Trials:
    """Return the trials of a search that has found these."""
    trials = search_on(FakeLab(Landscape()), **objective).trials
    trials.latencies_ms.append(12.0)
    trials.candidates += candidates
    return trials


def test_what_was_measured_and_what_was_expected_count_by_their_precision() -> None:
    candidate = artifact("6x, int8", 20.0, 0.2, expected=1.0)
    assert candidate.estimate is not None
    assert candidate.estimate.points == pytest.approx(0.6)
    assert candidate.corrected is not None
    assert candidate.corrected.points == pytest.approx(0.6 + NORMAL.inv_cdf(SAFE) * 0.6 / 2**0.5)


def test_a_model_that_is_no_artifact_is_not_chosen_by_a_corrected_drop() -> None:
    assert SearchCandidate("6x trained, 1 unit", "student-6x-1", 20.0, Drop(0.2, 0.6, 872), Speed(20.0)).corrected is None


def test_a_lucky_measurement_is_not_taken_where_the_family_loses_more() -> None:
    """The best of many looks better than it is."""
    lucky, plain = artifact("6x, int8", 20.0, 0.1, expected=1.5), artifact("4x, int8", 14.0, 0.3, expected=0.5)
    answer, kept = choose(trials_with(artifact("baseline, int8", 3.6, 0.2, expected=0.2), plain, lucky))
    assert kept
    assert answer.name == "4x, int8"
    assert lucky.verdict == "dropped"
    assert lucky.why == "within the limit with 68 % only, by what was measured and what its family loses"


def test_an_unlucky_measurement_is_taken_where_the_family_loses_less() -> None:
    answer, kept = choose(trials_with(artifact("baseline, int8", 3.6, 0.9, expected=0.0)))
    assert kept
    assert answer.name == "baseline, int8"


def test_an_estimate_just_within_the_limit_is_not_taken() -> None:
    answer, kept = choose(
        trials_with(artifact("baseline, int8", 3.6, 0.2), artifact("6x, int8", 20.0, 0.1), artifact("8x, int8", 28.0, 0.9))
    )
    assert kept
    assert answer.name == "6x, int8"


def test_whoever_looked_as_if_it_kept_the_limit_is_told_why_not() -> None:
    trials = trials_with(artifact("2x, int8", 7.0, 1.6), artifact("static, int8", None, 0.9))
    answer, kept = choose(trials)
    assert not kept
    assert answer.name == "static, int8"
    assert trials.candidates[1].verdict == "dropped"
    assert trials.candidates[1].why == "within the limit with 57 % only"


def test_a_confidence_that_was_asked_for_counts_the_measurement_alone() -> None:
    lucky, unlucky = artifact("6x, int8", 20.0, 0.1, expected=3.0), artifact("8x, int8", 28.0, 0.9, expected=0.0)
    answer, kept = choose(trials_with(lucky, unlucky, max_drop=1.0, confidence=0.9))
    assert kept
    assert answer is lucky
    assert unlucky.why == "within the limit with 57 % only"
