"""The search for the fastest way to run a model, on made-up times."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compress.benchmark import statistics
from compress.benchmark import tuning as module
from compress.benchmark.grid import Cell
from compress.benchmark.interleaving import Times
from compress.benchmark.tuning import Point, SearchSpace, by_threads, describe_point, search
from compress.core.errors import ModelError

AXES = {"form": ["plain", "fused"], "fusions": ["none", "all", "some"]}
START = {"form": "plain", "fusions": "none"}
CELLS = [Cell(1, 1, 16), Cell(2, 1, 16), Cell(1, 8, 128)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Point], float]], list[list[str]]]:
    """Return a function that puts made-up seconds, a function of the point, instead of measurements; it returns what was timed."""

    def use(seconds: Callable[[Point], float]) -> list[list[str]]:
        timed: list[list[str]] = []

        def fake(runners: dict[str, Any], batches: Any, rounds: int, limit: float, rng: np.random.Generator, advance: Any) -> Times:
            timed.append(list(runners))
            drift = 1 + rng.random(20)  # the machine slows down for all alike
            points = {name: dict(part.split(" ") for part in name.split(", ")) for name in runners}
            return {name: seconds(point) * drift * (1 + 0.001 * rng.random(20)) for name, point in points.items()}

        monkeypatch.setattr(module, "interleaved", fake)
        monkeypatch.setattr(module, "gc", SimpleNamespace(collect=lambda: 0))  # slow with torch loaded
        monkeypatch.setattr(statistics, "RESAMPLES", 100)  # quickly
        return timed

    return use


def space(wrong: Callable[[Point], str | None] = lambda point: None, broken: str = "", axes: dict[str, list[str]] = AXES) -> SearchSpace:
    """Return a space in which some points are wrong or cannot be opened."""

    def open_point(point: Point, threads: int) -> Any:
        if broken and broken in point.values():
            raise ModelError(f"{broken} cannot be opened")
        return lambda batch, point=point: point

    return SearchSpace(axes, START, open_point, lambda forward: wrong(forward({})), lambda cell: {})  # pyright: ignore[reportArgumentType]


def test_the_fastest_point_wins_whichever_it_is(clock: Any) -> None:
    for form, fusions in itertools.product(*AXES.values()):
        clock(lambda point, form=form, fusions=fusions: 1.0 + 0.5 * (point["form"] != form) + 0.3 * (point["fusions"] != fusions))
        result = search(space(), CELLS)
        assert result.winner == {"form": form, "fusions": fusions}
        gain = (1.0 + 0.5 * (form != "plain") + 0.3 * (fusions != "none")) / 1.0
        assert [cell["speedup"] for cell in result.cells] == pytest.approx([gain] * 3, rel=0.01)


def test_equal_points_leave_the_start(clock: Any) -> None:
    clock(lambda point: 1.0)
    assert search(space(), CELLS).winner == START


def test_every_point_is_timed_against_the_start_and_the_best_so_far(clock: Any) -> None:
    timed = clock(lambda point: 1.0 if point["form"] == "fused" else 2.0)
    result = search(space(), CELLS)
    fused = {**START, "form": "fused"}
    assert timed[0] == [describe_point(START), describe_point(fused)]
    assert timed[3] == [describe_point(START), describe_point(fused), "form fused, fusions all", "form fused, fusions some"]
    assert [entry["point"] for entry in result.table][1:] == [fused, *({**fused, "fusions": value} for value in ("all", "some"))]
    assert all(entry["ci95"][0] <= entry["speedup"] <= entry["ci95"][1] for entry in result.table)


def test_what_is_wrong_or_does_not_open_is_never_timed(clock: Any) -> None:
    timed = clock(lambda point: 0.1 if point["form"] == "fused" or point["fusions"] == "all" else 1.0)
    result = search(space(lambda point: "differs by 3" if point["form"] == "fused" else None, broken="all"), CELLS)
    assert result.winner == START
    assert {entry["point"]["form"]: entry["refused"] for entry in result.table if "refused" in entry}["fused"] == "differs by 3"
    assert any("all cannot be opened" in entry.get("refused", "") for entry in result.table)
    assert not [name for names in timed for name in names if "fused" in name or "all" in name]


def test_cells_are_listed_in_the_order_they_are_measured(clock: Any) -> None:
    clock(lambda point: 1.0)
    assert by_threads(CELLS) == [CELLS[0], CELLS[2], CELLS[1]]
    result = search(space(axes={}), CELLS)
    assert [(cell["threads"], cell["batch_size"]) for cell in result.cells] == [(1, 1), (1, 8), (2, 1)]
