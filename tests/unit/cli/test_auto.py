"""`compress auto`: what it prints when a search did not end as asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compress import api
from compress.cli.main import main
from compress.core.errors import GateMissed, Stopped

DOCUMENT = {
    "answer": {"candidate": "4x, int8", "model": "int8-4x-2", "latency_ms": 0.8},
    "speedup": {"ratio": 14.2, "ci95": [13.9, 14.5]},
    "kept": True,
    "verdict": {"split": "test", "n": 1821, "drop_points": 0.4, "drop_ci95": [-0.3, 1.1]},
    "limit": {"max_drop": 1.0},
    "tradeoffs": [],
    "output": "out",
    "spent_seconds": 60.0,
}


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Stopped(DOCUMENT), 130, "answer: 4x, int8 (int8-4x-2)"),
        (GateMissed("nothing keeps the limit", "allow more", {**DOCUMENT, "kept": False}), 6, "nearest: 4x, int8 (int8-4x-2)"),
    ],
    ids=["stopped", "missed"],
)
def test_the_answer_so_far_is_printed(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(api, "auto", ends)
    monkeypatch.setattr("signal.signal", lambda *args: None)
    for flags in ([], ["--json"]):
        with pytest.raises(SystemExit) as caught:
            main([*flags, "auto", "model", "--task", "sst2", "--max-drop", "1", "-o", "out"])
        assert caught.value.code == code
        printed = capsys.readouterr().out
        if flags:
            document = json.loads(printed)
            assert (document["answer"]["model"], document["exit_code"]) == ("int8-4x-2", code)
        else:
            assert line in printed


def test_a_dry_run_shows_the_plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plan = {
        "output": "out",
        "objective": "the fastest model that loses at most 1 point",
        "budget_seconds": 2700.0,
        "least_seconds": 300.0,
        "start": [{"what": "fine-tuning for 3 epochs", "seconds": 0.0, "stored": True}],
        "later": [{"what": "pruning to 6 sizes, in one run", "seconds": 230.0, "stored": False}],
        "log": ["look for the fastest model", "the least takes about 5 min 0 s"],
    }
    asked: list[dict[str, Any]] = []

    def planned(*args: Any, **options: Any) -> dict[str, Any]:
        asked.append(options)
        return plan

    monkeypatch.setattr(api, "plan_auto", planned)
    monkeypatch.setattr("signal.signal", lambda *args: None)
    for flags in ([], ["--json"]):
        with pytest.raises(SystemExit) as caught:
            main([*flags, "auto", "model", "--task", "sst2", "--max-drop", "1", "-o", "out", "--dry-run"])
        assert caught.value.code == 0
        printed = capsys.readouterr().out
        if flags:
            assert plan.items() <= json.loads(printed).items()
        else:
            assert "in the store" in printed
            assert "3 min 50 s" in printed
            assert "40 min 0 s are left" in printed
    assert asked[0]["max_drop"] == 1.0
