"""The event log of a run."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

import pytest

from compress.core import console
from compress.core.errors import DataError
from compress.recipe.events import logged_events


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_events_have_their_time_and_end_with_the_context(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    with logged_events(log):
        console.event("one", loss=math.nan, path=tmp_path)
    console.event("later")
    (event,) = lines(log)
    assert datetime.fromisoformat(str(event.pop("time"))).tzinfo is not None
    assert event == {"event": "one", "loss": None, "path": str(tmp_path)}  # NaN is not JSON


def test_a_log_is_continued(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with logged_events(tmp_path / "events.jsonl"):
            console.event(name)
    assert [event["event"] for event in lines(tmp_path / "events.jsonl")] == ["one", "two"]


def test_failures_are_events(tmp_path: Path) -> None:
    with pytest.raises(DataError), logged_events(tmp_path / "events.jsonl"):
        raise DataError("no file")
    with pytest.raises(KeyboardInterrupt), logged_events(tmp_path / "events.jsonl"):
        raise KeyboardInterrupt
    failed, interrupted = lines(tmp_path / "events.jsonl")
    assert (failed["event"], failed["message"], failed["exit_code"]) == ("failed", "no file", 4)
    assert interrupted["event"] == "interrupted"
