"""What the verbs print about the folder that they wrote, or found written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compress.cli.common import show_result
from compress.core import console

DOCUMENT: dict[str, Any] = {
    "output": "slim/",
    "up_to_date": False,
    "created": "2026-03-01T12:30:05+00:00",
    "seconds": 75.0,
    "metrics": {"validation": {"accuracy": 0.9, "drop_points": 1.5, "n": 40}, "size_mb": 12.0},
}
SPREAD = {"mean": 0.8, "std": 0.01, "min": 0.75, "max": 0.85}


def printed(capsys: pytest.CaptureFixture[str], **changes: Any) -> list[str]:
    show_result(DOCUMENT | changes)
    return capsys.readouterr().out.splitlines()


def test_scores_are_in_points_and_the_folder_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys) == ["validation (n = 40): accuracy 90.00, 1.50 points lost", "wrote slim/ (1 min 15 s)"]


def test_results_of_an_earlier_call_are_not_printed_as_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    *_, last = printed(capsys, up_to_date=True)
    assert last == "nothing to do: slim/ was written on 2026-03-01 12:30 UTC (in 1 min 15 s), and these results are from then"


def test_several_seeds_print_their_spread(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = {"metric": "accuracy", "best": "seed-2", "median": "seed-0"}
    lines = printed(capsys, seeds={"validation": {"accuracy": SPREAD}}, models=[{}, {}, {}], chosen=chosen)
    assert lines == [
        "validation (n = 40), 3 seeds:",
        "  accuracy 80.00, standard deviation 1.00, from 75.00 to 85.00",
        "by accuracy: best seed-2, median seed-0",
        "wrote slim/ (1 min 15 s)",
    ]


def test_as_json_the_document_is_printed_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_state", console._State(json=True))
    assert json.loads("\n".join(printed(capsys))) == DOCUMENT
