"""The report of a search: one offline page with every candidate, the limit and the answer; hostile names stay text."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import pytest

from compress.report.search_chart import search_chart
from compress.report.search_page import write_search_report
from compress.results.search import SearchDocument


def row(name: str, drop: float, ratio: float, measured: bool = True, verdict: str = "kept") -> dict[str, Any]:
    return {
        "candidate": name,
        "model": name.replace(" ", "-"),
        "score": 0.88 - drop / 100,
        "drop_points": drop,
        "drop_ci95": [drop - 1, drop + 1],
        "expected_points": drop if measured else None,
        "corrected_points": drop if measured else None,
        "latency_ms": 12 / ratio,
        "speedup": ratio,
        "speedup_ci95": [0.98 * ratio, 1.02 * ratio] if measured else None,
        "size_mb": 20.0 if measured else None,
        "seconds": 42.0,
        "verdict": verdict,
        "why": "keeps the limit",
    }


ROWS = [row("baseline int8", 0.1, 3.6), row("4x pruned only", 3.0, 14.0, measured=False), row("4x int8", 0.7, 15.0, verdict="answer")]
DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "output": "out",
    "objective": "the fastest model that loses at most 1 point",
    "kept": True,
    "interrupted": False,
    "task": "sst2",
    "metric": "accuracy",
    "baseline_score": 0.88,
    "baseline_ms": 12.0,
    "limit": {"max_drop": 1.0, "target_latency_ms": None},
    "serving": {"batch_size": 1, "seq_len": 32, "threads": 1, "runtime": "auto"},
    "answer": ROWS[2],
    "speedup": {"vs": "teacher", "ratio": 15.0, "ci95": [14.7, 15.3]},
    "verdict": {
        "split": "test",
        "n": 1821,
        "score": 0.87,
        "baseline": 0.88,
        "drop_points": 1.0,
        "drop_ci95": [0.1, 1.9],
        "p_value": 0.04,
        "keeps": True,
        "validation_drop_points": 0.7,
        "choices": 3,
        "flattery_points": 0.5,
        "examples_needed": None,
    },
    "candidates": ROWS,
    "tradeoffs": [{"limit": 1.5, "candidate": "4x int8", "speedup": 15.0, "drop_points": 0.7}],
    "log": ["look for the fastest", "stop: nothing is left to try"],
    "budget_seconds": 2700.0,
    "spent_seconds": 2400.0,
    "reused_seconds": 100.0,
    "machine": {"cpu": "a processor", "cores": 2},
    "metrics": {"score": 0.87, "speedup": 15.0, "latency_ms": 0.8},
    "seconds": 2400.0,
}


def page(folder: Path, **changes: Any) -> str:
    document = cast("SearchDocument", copy.deepcopy(DOCUMENT) | changes)
    return write_search_report(document, folder).read_text(encoding="utf-8")


def test_everything_that_was_tried_is_on_the_page(tmp_path: Path) -> None:
    text = page(tmp_path)
    for part in (
        "baseline int8",
        "4x pruned only",
        "15.0 times as fast",
        "n = 1,821",
        "Half a point more or less",
        "stop: nothing is left to try",
    ):
        assert part in text
    assert "http" not in text.partition("<body>")[2].partition("<script")[0]  # no request leaves the page


def test_a_missed_limit_is_said_first(tmp_path: Path) -> None:
    assert "Nothing keeps the limit; the nearest is 4x int8" in page(tmp_path, kept=False)


def test_an_interrupted_search_has_no_verdict(tmp_path: Path) -> None:
    assert "points lost" not in page(tmp_path, verdict=None).partition("<figure>")[0]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    text = page(tmp_path, task=hostile, log=[hostile], candidates=[row(hostile, 0.1, 3.0), *ROWS], objective=hostile)
    assert hostile not in text


@pytest.mark.parametrize("limit", [{"max_drop": 1.0, "target_latency_ms": None}, {"max_drop": None, "target_latency_ms": 2.0}])
def test_the_chart_shows_the_limit_the_front_and_the_answer(limit: dict[str, float | None]) -> None:
    chart = search_chart(cast("SearchDocument", copy.deepcopy(DOCUMENT) | {"limit": limit}))
    assert chart is not None
    names = [trace.name for trace in chart.data]
    assert names == ["front of what was timed", "trained, latency predicted", "timed", "the answer", "baseline"]
    assert {"baseline int8", "4x pruned only", "4x int8", "baseline, PyTorch"} <= {note.text for note in chart.layout.annotations}
    assert len(chart.layout.shapes) == 1
    if limit["target_latency_ms"]:
        (text,) = [note for note in chart.layout.annotations if note.text == "the limit: 2 ms"]
        assert text.x == pytest.approx(0.301, abs=1e-3)  # the logarithm of 2


def test_without_candidates_there_is_no_chart() -> None:
    assert search_chart(cast("SearchDocument", copy.deepcopy(DOCUMENT) | {"candidates": []})) is None
