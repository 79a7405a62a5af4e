"""What is learned of costs and losses."""

from __future__ import annotations

import json

import pytest

from compress.search.costs import REMAINS_DOUBLED, REMAINS_FIRST, SearchCosts


def test_the_first_prediction_is_the_prior_on_this_machine() -> None:
    assert SearchCosts(scale=2.0).predict("train", 1000) > 1.9 * SearchCosts(scale=1.0).predict("train", 1000)


def test_later_predictions_are_what_was_measured() -> None:
    costs = SearchCosts()
    costs.learn("train", 500, 108.0)  # 8 fixed
    assert costs.predict("train", 1000) == pytest.approx(208.0)
    costs.learn("bench", 0, 7.0)
    assert costs.predict("bench") == pytest.approx(7.0)


def test_what_was_observed_corrects_the_first_timing_for_other_stages() -> None:
    """The machine was busy for a moment when it was timed."""
    costs = SearchCosts(scale=10.0)
    before = costs.predict("prune", 7)
    for kind, units, seconds in (("bench", 0, 8.0), ("eval", 1744, 5.5), ("quantize", 0, 30.0)):
        costs.learn(kind, units, seconds)
    usual = SearchCosts().predict("prune", 7)
    assert usual < costs.predict("prune", 7) < 2.5 * usual < before


def test_recent_stages_count_more() -> None:
    costs = SearchCosts()
    costs.learn("bench", 0, 10.0)
    costs.learn("bench", 0, 40.0)
    assert costs.predict("bench") == pytest.approx(30.0)


def test_a_stage_shorter_than_its_fixed_part_still_teaches() -> None:
    costs = SearchCosts()
    costs.learn("train", 500, 3.0)
    assert 0 < costs.predict("train", 500) < 12.0


def test_training_brings_back_a_share_of_a_loss() -> None:
    costs = SearchCosts()
    assert costs.recovered(4.0, 0, 1) == pytest.approx(4.0 * REMAINS_FIRST)
    assert costs.recovered(4.0, 0, 4) == pytest.approx(4.0 * REMAINS_FIRST * REMAINS_DOUBLED**2)
    assert costs.recovered(2.0, 2, 4) == pytest.approx(2.0 * REMAINS_DOUBLED)
    assert costs.recovered(-0.3, 0, 8) == -0.3
    assert costs.recovered(2.0, 4, 4) == 2.0


def test_the_share_is_learned() -> None:
    costs = SearchCosts()
    for _ in range(8):
        costs.learn_recovery("first", 4.0, 1.0)
    assert costs.remaining_share("first") == pytest.approx(0.25, abs=0.03)
    before = costs.remaining_share("doubled")
    costs.learn_recovery("doubled", 0.2, -0.5)  # too small to say anything
    assert costs.remaining_share("doubled") == before


def test_what_was_learned_is_carried_over() -> None:
    costs = SearchCosts(scale=3.0)
    costs.learn("prune", 6, 300.0)
    costs.learn_recovery("first", 4.0, 1.0)
    again = SearchCosts.from_json(json.loads(json.dumps(costs.as_json())), 3.0)
    assert again.predict("prune", 9) == costs.predict("prune", 9)
    assert again.remaining_share("first") == costs.remaining_share("first")
