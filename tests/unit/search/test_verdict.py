"""The verdict in numbers and words."""

from __future__ import annotations

import pytest

from compress.search.candidates import SearchCandidate, Speed
from compress.search.choice import choose
from compress.search.estimates import Drop
from compress.search.objective import Objective
from compress.search.verdict import judge, tradeoffs
from tests.unit.search.landscape import FakeLab, Landscape, search_on


@pytest.fixture(scope="module")
def finished() -> FakeLab:
    lab = FakeLab(Landscape())
    search_on(lab).run()
    return lab


def test_the_judge_is_read_once_and_the_flattery_named(finished: FakeLab) -> None:
    search = search_on(FakeLab(Landscape(), finished.store, finished.entries))
    search.run()
    answer, _ = choose(search.trials)
    verdict = judge(search.trials, answer)
    assert (verdict["split"], verdict["n"]) == ("test", 1821)
    assert answer.drop is not None
    assert verdict["validation_drop_points"] == answer.drop.points
    assert verdict["choices"] > 5
    assert 0 < verdict["flattery_points"] < 3
    assert verdict["keeps"] == (verdict["drop_points"] <= 1.0)


def test_other_limits_name_the_best_that_was_tried() -> None:
    search = search_on(FakeLab(Landscape()), max_drop=2.0)
    search.run()
    trials = search.trials
    entries = tradeoffs(trials.candidates, trials.objective, trials.baseline_ms)
    assert [entry["limit"] for entry in entries] == [1.5, 2.5]
    assert entries[0]["speedup"] <= entries[1]["speedup"]
    by_latency = tradeoffs(trials.candidates, Objective("most accurate", target_latency_ms=1.0), trials.baseline_ms)
    assert all(trials.baseline_ms / entry["speedup"] <= entry["limit"] for entry in by_latency)


def test_other_limits_name_no_model_that_its_final_form_has_disproved() -> None:
    """As on SST-2: after four units a size seemed to lose little and to be very fast; its int8 form is slower and loses more."""
    known = [
        SearchCandidate("8x trained, 4 units", "student-8x-4", 40.0, Drop(0.2, 0.1, 872), Speed(40.0)),
        SearchCandidate("8x, int8", "int8-8x-16", 40.0, Drop(0.9, 0.1, 872), Speed(23.0, (22.0, 24.0)), 14.0),
        SearchCandidate("6x trained, 1 unit", "student-6x-1", 30.0, Drop(0.1, 0.1, 872), Speed(18.0)),
        SearchCandidate("4x trained, 1 unit", "student-4x-1", 20.0, Drop(0.4, 0.1, 872), Speed(19.0)),  # its int8 form may lose 0.6
    ]
    entries = tradeoffs(known, Objective("fastest", 1.0), 12.0)
    assert [(entry["limit"], entry["candidate"]) for entry in entries] == [(0.5, "6x trained, 1 unit"), (1.5, "8x, int8")]


def test_for_the_smallest_other_limits_name_the_smallest() -> None:
    def candidate(name: str, size: float | None, ratio: float, points: float) -> SearchCandidate:
        return SearchCandidate(name, name, None, Drop(points, 0.05, 872), Speed(ratio, (ratio, ratio)), size)

    known = [candidate("fast", 9.0, 20.0, 0.4), candidate("small", 5.0, 3.0, 1.2), candidate("trained", None, 30.0, 0.1)]
    entries = tradeoffs(known, Objective("smallest", 1.0), 12.0)
    assert [(entry["limit"], entry["candidate"]) for entry in entries] == [(0.5, "fast"), (1.5, "small")]
