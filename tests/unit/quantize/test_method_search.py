"""`method: auto`: what is tried, and on which machine."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import UsageError
from compress.data.metrics import describe_drop
from compress.quantize.method_search import _reason
from tests.unit.quantize.stage import run


def test_auto_for_gpus(graph: Path, tiny_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("compress.quantize.method_search"), "measure_speedup", lambda *args: pytest.fail("timed"))
    assert run(graph, tmp_path / "cuda", tiny_task, method="auto", target="cuda")["precision"] == "fp16"
    made = run(graph, tmp_path / "tensorrt", tiny_task, method="auto", target="tensorrt", max_drop=100.0)
    assert (made["method"], [entry["method"] for entry in made["candidates"]]) == ("static", ["static"])
    for method, message in (("dynamic", "does not support dynamic int8"), ("auto", "needs texts to calibrate on")):
        with pytest.raises(UsageError, match=message):
            run(graph, tmp_path / method, target="tensorrt", method=method)


@pytest.mark.parametrize(
    ("lost", "interval", "expected"),
    [
        ({"dynamic": 0.2, "static": 0.1}, [0.9, 1.1], "times do not differ; it loses fewer points"),
        ({"dynamic": 0.2, "static": 0.2}, [0.9, 1.1], "times do not differ; the accuracy is the same"),
        ({"dynamic": 0.2, "static": 0.1}, None, "times were not measured; it loses fewer points"),
        ({"dynamic": 0.2, "static": 0.1}, [1.1, 1.2], "it is faster"),
        ({"dynamic": 2.0, "static": 0.1}, [0.9, 1.1], "no other loses at most 0.5 points"),
        ({"static": 0.1}, None, "it loses at most 0.5 points"),
    ],
)
def test_the_choice_says_why(lost: dict[str, float], interval: list[float] | None, expected: str) -> None:
    assert _reason([name for name, points in lost.items() if points <= 0.5], lost, interval, 0.5) == expected


@pytest.mark.parametrize(
    ("points", "words"), [(1.5, "1.50 points lost"), (-1.5, "1.50 points gained"), (0.0, "no loss"), (-0.001, "no loss")]
)
def test_a_drop_in_words(points: float, words: str) -> None:
    assert describe_drop(points) == words
