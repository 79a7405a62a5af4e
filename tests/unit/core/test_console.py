"""The one place that prints."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.core import console

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(max_examples=15)
@given(VALUES)
def test_finite_makes_json_of_anything(value: Any) -> None:
    json.loads(json.dumps(console.finite(value), allow_nan=False))


def test_finite_replaces_only_what_is_not_finite() -> None:
    value = {"a": [1.5, math.nan, (math.inf, "x")], 2: None}
    assert console.finite(value) == {"a": [1.5, None, [None, "x"]], "2": None}


def test_a_library_prints_nothing_but_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console.info("news")
    console.warn("careful")
    with console.progress("work", 3) as advance:
        advance(1, "note")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "warning: careful\n")


def test_json_mode_keeps_stdout_for_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(json_output=True)
    console.info("news")
    console.result({"loss": math.nan, "path": "é"}, lambda: pytest.fail("printed for people"))
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert (document["loss"], document["path"]) == (None, "é")
    assert {"output", "metrics", "seconds"} <= set(document)
    assert out.count("\n") == 1
    assert err == "news\n"


def test_human_mode_prints_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure()
    console.result({"a": 1}, lambda: print("one"))
    assert capsys.readouterr().out == "one\n"


def test_quiet_keeps_results_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(quiet=True)
    console.info("news")
    console.warn("careful")
    console.result({}, lambda: print("result"))
    assert capsys.readouterr() == ("result\n", "warning: careful\n")


def test_events_go_to_the_observer_and_nest() -> None:
    outer: list[Any] = []
    inner: list[Any] = []
    with console.observed(outer.append):
        console.info("a")
        with console.observed(inner.append):
            console.event("epoch", loss=1.0)
        console.warn("b")
    console.event("lost")
    assert outer == [{"event": "log", "text": "a"}, {"event": "warning", "text": "b"}]
    assert inner == [{"event": "epoch", "loss": 1.0}]


def test_progress_in_a_log_is_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    console.configure()
    with console.progress("training", 4) as advance:
        for _ in range(4):
            advance(1, "loss 0.5")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["  training 2/4 loss 0.5 (about 20 s left)"]


def test_what_was_done_before_tells_nothing_of_the_time_left(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    console.configure()
    now = iter([100.0, 120.0])
    monkeypatch.setattr("compress.core.console.time.monotonic", lambda: next(now))
    with console.progress("training", 100, 60) as advance:
        advance()
    assert "training 61/100  (about 13 min 0 s left)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (59.4, "59 s"), (60, "1 min 0 s"), (125, "2 min 5 s"), (7201, "120 min 1 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


@given(st.floats(0, 1e6))
def test_durations_never_show_sixty_seconds(seconds: float) -> None:
    assert " 60 s" not in f" {console.duration(seconds)}"


def test_tables_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"model-{'x' * 30}-{number}" for number in range(3)]
    console.table(["model", "p50 ms"], [[name, "1.25"] for name in names], "a title")
    out = capsys.readouterr().out
    assert all(name in out for name in names)
    assert "a title" in out


def test_tables_print_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """`[bold]` in a model's name or an interval `[0.1, 0.2]` is text, not markup."""
    console.table(["model", "interval"], [["runs/[bold]x", "1.5 [1.2, 1.7]"]])
    out = capsys.readouterr().out
    assert "runs/[bold]x" in out
    assert "1.5 [1.2, 1.7]" in out


def test_did_you_mean_is_near_or_silent() -> None:
    from compress.core.errors import did_you_mean

    assert did_you_mean("epoch", ["epochs", "lr"]) == " (did you mean 'epochs'?)"
    assert did_you_mean("zzz", ["epochs", "lr"]) == ""
    assert did_you_mean("", []) == ""
