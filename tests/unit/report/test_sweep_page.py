"""The report of a sweep, from its document."""

from __future__ import annotations

import copy
from typing import Any

from compress.report.sweep_page import spread_cell, sweep_page


def spread(mean: float, std: float | None = None) -> dict[str, Any]:
    return {"mean": mean, "std": std, "min": mean - (std or 0), "max": mean + (std or 0), "n": 1 if std is None else 2}


def setting(value: object, score: float, p50: float | None) -> dict[str, Any]:
    return {
        "values": {"slim.target": value},
        "finished": 2,
        "failed": 0,
        "gates_missed": 0,
        "score": spread(score, 0.01),
        "delta_points": spread(-1.0, 0.5),
        "p50_ms": None if p50 is None else spread(p50, 0.1),
        "speedup": None,
        "size_mb": None,
        "params": spread(2e6),
    }


def point(value: object, seed: int, failure: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "values": {"slim.target": value},
        "seed": seed,
        "folder": None if failure else "points/x",
        "model": "int8",
        "digest": "abcdef0123456789",
        "score": 0.9,
        "ci95": [0.88, 0.92],
        "delta_points": -1.0,
        "p50_ms": 1.5,
        "speedup": 6.0,
        "size_mb": 12.0,
        "params": 2_000_000,
        "gates": [{"gate": "max_drop", "passed": seed == 0}],
        "seconds": 12.0,
        "failure": failure,
    }


STAGE = {"stage": "slim", "verb": "prune", "points": 2, "ran": True, "seconds": 5.0}
DOCUMENT: dict[str, Any] = {
    "recipe": "small",
    "created": "2026-11-28T10:00:00+00:00",
    "machine": {"cpu": "a processor", "cores": 2, "torch": "2.13"},
    "grid": {"slim.target": [2, 3]},
    "seeds": [0, 1],
    "metric": "accuracy",
    "baseline": "teacher",
    "settings": [setting(2, 0.9, 1.5), setting(3, 0.85, 1.0)],
    "points": [point(2, 0), point(2, 1), point(3, 0), point(3, 1)],
    "stages": [STAGE, {**STAGE, "ran": False, "seconds": None}],
    "seconds": 20.0,
}


def test_a_page_has_its_tables_and_the_chart() -> None:
    page = sweep_page(DOCUMENT)
    assert "4 of 4 points are finished, 2 of them miss a gate." in page
    assert "90.00 ± 1.00<small>89.00 to 91.00</small>" in page
    assert 'id="chart-scatter"' in page
    assert "against teacher" in page
    assert "Failed points" not in page
    assert "a processor" in page


def test_without_latencies_there_is_no_chart() -> None:
    page = sweep_page({**DOCUMENT, "settings": [setting(2, 0.9, None), setting(3, 0.85, None)]})
    assert "chart-scatter" not in page
    assert "p50, ms" not in page.partition("<h2>Points")[0]


def test_texts_are_escaped() -> None:
    document = copy.deepcopy(DOCUMENT)
    failure = {"stage": "<b>", "message": "<script>x</script>", "hint": "<i>", "exit_code": 4}
    document |= {"recipe": "<script>alert(1)</script>", "points": [point("<img src=x>", 0, failure)]}
    document["settings"][0]["values"] = {"slim.target": "<img src=x>"}
    page = sweep_page(document)
    assert "<img" not in page
    assert "<script>x" not in page
    assert "<script>alert" not in page
    assert "0 of 1 points are finished" in page


def test_spreads_as_text() -> None:
    assert spread_cell(None) == "–"
    assert spread_cell(spread(0.5), 1, 100) == "50.0"
    assert spread_cell(spread(0.5, 0.1), 1, 100) == ("50.0 ± 10.0", "40.0 to 60.0")
