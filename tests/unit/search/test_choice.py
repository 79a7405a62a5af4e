"""The choice of the answer: drops that are corrected, and one rule for what keeps the limit."""

from __future__ import annotations

import pytest

from compress.search.baseline import UNREDUCED
from compress.search.candidates import SearchCandidate, Speed
from compress.search.choice import LIKELY, choose, correct_drops
from compress.search.estimates import NORMAL, Drop
from tests.unit.search.landscape import FakeLab, Landscape, search_on

CAUTION = NORMAL.inv_cdf(LIKELY)  # standard errors


def artifact(name: str, gain: float | None, points: float, error: float = 0.6) -> SearchCandidate:
    """Return a model that could be the answer."""
    return SearchCandidate(name, name, gain, Drop(points, error, 872), Speed(gain or 1.0, (1.0, 2.0)), size_mb=10.0)


def test_what_a_size_lost_before_it_was_trained_on_is_no_part_of_the_curve() -> None:
    before, after = artifact("4x, int8", 14.0, 3.0), artifact("4x, int8", 14.0, 0.8)
    correct_drops([artifact("baseline, int8", 3.6, 0.2), before, after])
    assert after.corrected is not None
    assert after.corrected.points == pytest.approx(0.8 + CAUTION * 0.6)
    assert before.corrected is not None
    assert before.corrected.points > 3.0


def test_the_float_graph_does_not_hide_what_int8_loses() -> None:
    """It is exact, so a curve on which both had the same place would be at its drop; in a search for the smallest both gain nothing."""
    int8 = artifact("baseline, int8", 0.0, 1.4)
    correct_drops([int8, artifact("baseline, fp32 graph", UNREDUCED, 0.0, 0.06)])
    assert int8.corrected is not None
    assert int8.corrected.points == pytest.approx(1.4 + CAUTION * 0.6)


def test_whoever_looked_as_if_it_kept_the_limit_is_told_why_not() -> None:
    trials = search_on(FakeLab(Landscape())).trials
    trials.latencies_ms.append(12.0)
    trials.candidates += [artifact("2x, int8", 7.0, 1.6), artifact("4x, int8", 14.0, 0.9)]
    answer, kept = choose(trials)
    assert not kept
    assert answer.name == "4x, int8"
    assert trials.candidates[1].verdict == "dropped"
    assert trials.candidates[1].why == "within the limit with 43 % only, by what similar models lost"


def test_an_estimate_just_within_the_limit_is_not_taken() -> None:
    """The best of many looks better than it is."""
    trials = search_on(FakeLab(Landscape())).trials
    trials.latencies_ms.append(12.0)
    trials.candidates += [artifact("baseline, int8", 3.6, 0.2), artifact("6x, int8", 20.0, 0.5), artifact("8x, int8", 28.0, 0.9)]
    answer, kept = choose(trials)
    assert kept
    assert answer.name == "6x, int8"
