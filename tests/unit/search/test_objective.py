"""What is asked for, and whether a model keeps it."""

from __future__ import annotations

from typing import Any

import pytest

from compress.search.estimates import Drop
from compress.search.objective import Objective, ServingPoint
from compress.settings.auto import AutoSettings


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"max_drop": 1.0}, "fastest", "the fastest model that loses at most 1 point"),
        ({"max_drop": 1.5, "smallest": True}, "smallest", "the smallest model that loses at most 1.5 points"),
        ({"max_drop": 1.0, "confidence": 0.9}, "fastest", "the fastest model that loses at most 1 point, with 90 % confidence"),
        ({"target_latency_ms": 2.0}, "most accurate", "the most accurate model within 2 ms"),
    ],
)
def test_the_objective_of_settings(settings: dict[str, Any], kind: str, text: str) -> None:
    objective = Objective.of(AutoSettings(**settings))
    assert objective.kind == kind
    assert objective.describe() == text


def test_a_drop_keeps_a_limit_by_its_estimate_or_with_confidence() -> None:
    drop = Drop(0.9, 0.5, 872)
    assert Objective("fastest", 1.0).keeps(drop, None)
    sure = Objective("fastest", 1.0, confidence=0.9)
    assert not sure.keeps(drop, None)
    assert sure.excess(drop, None) == "the drop is within the limit with 58 % only"
    assert Objective("fastest", 0.5).excess(drop, None) == "0.90 points lost are more than 0.5"
    assert not Objective("fastest", 1.0).keeps(None, 1.0)


def test_a_latency_keeps_a_limit_whatever_the_drop() -> None:
    objective = Objective("most accurate", target_latency_ms=2.0)
    assert objective.keeps(Drop(30.0, 0.5, 872), 1.9)
    assert not objective.keeps(Drop(0.0, 0.5, 872), 2.1)
    assert not objective.keeps(None, None)
    assert objective.excess(None, 2.1) == "2.1 ms at the usual load are more than 2"


def test_a_serving_point_in_words() -> None:
    assert ServingPoint(1, 32, 1, "auto").describe() == "batch 1, 32 tokens, one thread"
    assert ServingPoint(8, 128, 2, "auto").describe() == "batch 8, 128 tokens, 2 threads"
