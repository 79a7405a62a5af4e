"""The sentences of a verdict."""

from __future__ import annotations

from typing import Any, cast

import pytest

from compress.report.search_words import choice_sentence, describe_points, verdict_sentences
from compress.results.search import CandidateRow, SearchVerdict

VERDICT: dict[str, Any] = {
    "split": "test",
    "n": 1821,
    "score": 0.8638,
    "baseline": 0.8814,
    "drop_points": 1.76,
    "drop_ci95": [0.36, 3.16],
    "p_value": 0.0165,
    "keeps": False,
    "validation_drop_points": 0.917,
    "choices": 19,
    "flattery_points": 1.998,
    "examples_needed": None,
}


def sentences(limit: dict[str, float | None], **changes: Any) -> list[str]:
    return verdict_sentences(cast("SearchVerdict", VERDICT | changes), "accuracy", limit)


def test_the_verdict_its_flattery_and_the_limit() -> None:
    assert sentences({"max_drop": 1.0, "confidence": None}) == [
        "verdict on test (n = 1,821), which chose nothing: accuracy 86.38, baseline 88.14, 1.76 points lost [0.4, 3.2], p = 0.017",
        "validation said 0.92 points lost; it chose among 19 candidates, and such a choice flatters by up to 2.00 points",
        "that is more than 1, which may be chance",
    ]


def test_the_choice_names_what_was_measured_and_what_was_expected() -> None:
    row = cast("CandidateRow", {"candidate": "6x, int8", "drop_points": 0.57, "expected_points": 1.1, "corrected_points": 1.4})
    known = "the answer is 6x, int8: 0.57 points lost"
    assert choice_sentence(row, 0.9) == f"{known}, 1.10 were expected; with 90 % at most 1.40"
    alone = cast("CandidateRow", {**row, "expected_points": None})
    assert choice_sentence(alone, 0.9) == f"{known}; with 90 % at most 1.40"


def test_what_is_beyond_chance_is_called_so() -> None:
    assert sentences({"max_drop": 0.3, "confidence": None})[-1] == "that is more than 0.3, beyond chance"


def test_a_kept_limit_needs_no_sentence() -> None:
    assert len(sentences({"max_drop": 2.0, "confidence": None}, keeps=True, p_value=1e-5)) == 2
    assert len(sentences({"max_drop": None, "target_latency_ms": 2.0}, keeps=None)) == 2


def test_a_gain_is_called_so() -> None:
    assert sentences({}, validation_drop_points=-0.25)[1].startswith("validation said 0.25 points gained; ")


def test_a_single_candidate_was_not_chosen() -> None:
    assert sentences({}, choices=1)[1].endswith("so nothing was chosen")


@pytest.mark.parametrize(("needed", "part"), [(12_345, "about 12,345 examples"), (None, "no number of examples would show")])
def test_a_confidence_that_was_not_reached_names_the_examples(needed: int | None, part: str) -> None:
    assert part in sentences({"max_drop": 1.0, "confidence": 0.9}, examples_needed=needed)[-1]


def test_a_gain_turns_the_interval() -> None:
    assert describe_points(0.34, [-0.8, 1.5]) == "0.34 points lost [-0.8, 1.5]"
    assert describe_points(-0.34, [-1.5, 0.8]) == "0.34 points gained [-0.8, 1.5]"
    assert describe_points(0.0, [-0.0, 0.0]) == "0.00 points lost [0.0, 0.0]"
