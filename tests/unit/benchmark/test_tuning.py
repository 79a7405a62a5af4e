"""The search for the fastest way to run a model, on made-up times."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.benchmark import statistics
from compress.benchmark import tuning as module
from compress.benchmark.latency import Cell, Times
from compress.benchmark.statistics import geometric_ratio
from compress.benchmark.tuning import Point, SearchSpace, compare_runtimes, describe_point, in_order, routes, search
from compress.core.errors import ModelError

AXES = {"form": ["plain", "fused"], "fusions": ["none", "all", "some"]}
START = {"form": "plain", "fusions": "none"}
CELLS = [Cell(1, 1, 16), Cell(2, 1, 16), Cell(1, 8, 128)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Point], float]], list[list[str]]]:
    """Return a function that puts made-up seconds, a function of the point, in the place of the clock; it returns what was timed."""

    def use(seconds: Callable[[Point], float]) -> list[list[str]]:
        timed: list[list[str]] = []

        def fake(runners: dict[str, Any], batches: Any, rounds: int, limit: float, rng: np.random.Generator, advance: Any) -> Times:
            timed.append(list(runners))
            drift = 1 + rng.random(20)  # the machine slows down for all alike
            points = {name: dict(part.split(" ") for part in name.split(", ")) for name in runners}
            return {name: seconds(point) * drift * (1 + 0.001 * rng.random(20)) for name, point in points.items()}

        monkeypatch.setattr(module, "interleaved", fake)
        monkeypatch.setattr(statistics, "RESAMPLES", 100)  # quickly
        return timed

    return use


def ways(wrong: Callable[[Point], str | None] = lambda point: None, broken: str = "") -> SearchSpace:
    """SearchSpace to open points, of which some are wrong or cannot be opened."""

    def open_point(point: Point, threads: int) -> Any:
        if broken and broken in point.values():
            raise ModelError(f"{broken} cannot be opened")
        return lambda batch, point=point: point

    return SearchSpace(open_point, lambda forward: wrong(forward({})), lambda cell: {})  # pyright: ignore[reportArgumentType]


def test_the_fastest_point_wins_whichever_it_is(clock: Any) -> None:
    for form, fusions in itertools.product(*AXES.values()):
        clock(lambda point, form=form, fusions=fusions: 1.0 + 0.5 * (point["form"] != form) + 0.3 * (point["fusions"] != fusions))
        found = search(AXES, START, ways(), CELLS)
        assert found.winner == {"form": form, "fusions": fusions}
        gain = (1.0 + 0.5 * (form != "plain") + 0.3 * (fusions != "none")) / 1.0
        assert [cell["speedup"] for cell in found.cells] == pytest.approx([gain] * 3, rel=0.01)


def test_equal_points_leave_the_start(clock: Any) -> None:
    clock(lambda point: 1.0)
    assert search(AXES, START, ways(), CELLS).winner == START


def test_every_point_is_timed_against_the_start_and_the_best_so_far(clock: Any) -> None:
    timed = clock(lambda point: 1.0 if point["form"] == "fused" else 2.0)
    found = search(AXES, START, ways(), CELLS)
    fused = {**START, "form": "fused"}
    assert timed[0] == [describe_point(START), describe_point(fused)]
    assert timed[3] == [describe_point(START), describe_point(fused), "form fused, fusions all", "form fused, fusions some"]
    assert [entry["point"] for entry in found.table][1:] == [fused, *({**fused, "fusions": value} for value in ("all", "some"))]
    assert all(entry["ci95"][0] <= entry["speedup"] <= entry["ci95"][1] for entry in found.table)


def test_what_is_wrong_or_does_not_open_is_never_timed(clock: Any) -> None:
    timed = clock(lambda point: 0.1 if point["form"] == "fused" or point["fusions"] == "all" else 1.0)
    found = search(AXES, START, ways(lambda point: "differs by 3" if point["form"] == "fused" else None, broken="all"), CELLS)
    assert found.winner == START
    assert {entry["point"]["form"]: entry["refused"] for entry in found.table if "refused" in entry}["fused"] == "differs by 3"
    assert any("all cannot be opened" in entry.get("refused", "") for entry in found.table)
    assert not [name for names in timed for name in names if "fused" in name or "all" in name]


def test_cells_are_told_in_the_order_they_are_measured(clock: Any) -> None:
    clock(lambda point: 1.0)
    assert in_order(CELLS) == [CELLS[0], CELLS[2], CELLS[1]]
    found = search({}, START, ways(), CELLS)
    assert [(cell["threads"], cell["batch_size"]) for cell in found.cells] == [(1, 1), (1, 8), (2, 1)]


def best_by_trying(sizes: list[int], gains: dict[int, float]) -> float:
    """The best gain of at most one change, less what each size and the change must be worth."""
    found = []
    for limit, above in itertools.product([0, *sizes], (0, 1)):
        used = [size for size in sizes if (size > limit) == bool(above)]
        alone = len(used) in (0, len(sizes))
        found.append(sum(np.log(gains[size]) - module.WORTHWHILE for size in used) - (0 if alone else module.WORTHWHILE * len(sizes)))
    return max(found)


@given(st.dictionaries(st.integers(1, 4096), st.floats(0.2, 5.0), min_size=1, max_size=7))
def test_routes_are_the_best_of_all_with_one_change(gains: dict[int, float]) -> None:
    found = routes(list(gains), list(gains.values()), ("first", "second"))
    assert found[-1]["up_to"] is None
    assert len(found) <= 2
    limit = found[0]["up_to"] or 0
    sent = {size: found[0 if size <= limit else -1]["runtime"] for size in gains}
    reached = sum(np.log(gain) - module.WORTHWHILE for size, gain in gains.items() if sent[size] == "second")
    penalty = module.WORTHWHILE * len(gains) if len(found) == 2 else 0
    assert reached - penalty == pytest.approx(best_by_trying(sorted(gains), gains), abs=1e-9)


def test_a_small_gain_is_not_worth_a_second_runtime() -> None:
    assert routes([16, 128], [0.98, 1.02], ("a", "b")) == [{"up_to": None, "runtime": "a"}]
    assert routes([16, 128], [0.5, 2.0], ("a", "b")) == [{"up_to": 45, "runtime": "a"}, {"up_to": None, "runtime": "b"}]
    assert routes([16, 128], [2.0, 0.5], ("a", "b")) == [{"up_to": 45, "runtime": "b"}, {"up_to": None, "runtime": "a"}]
    assert routes([16, 32, 128], [0.5, 1.02, 2.0], ("a", "b")) == [{"up_to": 64, "runtime": "a"}, {"up_to": None, "runtime": "b"}]


def test_what_is_within_the_noise_does_not_choose_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [Cell(1, 1, 16), Cell(1, 8, 128)]

    spread = {"now": 1.0}

    def fake(runners: Any, batches: Any, rounds: int, limit: float, rng: np.random.Generator, advance: Any) -> Times:
        first, second = runners  # the second is 10 % faster, more or less
        return {first: np.full(41, 1.1), second: np.exp(spread["now"] * np.linspace(-1, 1, 41))}

    monkeypatch.setattr(module, "interleaved", fake)
    runtimes: Any = {"a": lambda threads: lambda batch: None, "b": lambda threads: lambda batch: None}
    found, entries = compare_runtimes(runtimes, lambda cell: {}, cells)
    assert all(entry["speedup"] > 1.05 and entry["ci95"][0] < 1 < entry["ci95"][1] for entry in entries)
    assert found == [{"up_to": None, "runtime": "a"}]
    spread["now"] = 0.01
    assert compare_runtimes(runtimes, lambda cell: {}, cells)[0] == [{"up_to": None, "runtime": "b"}]


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=4))
def test_the_geometric_ratio_of_steady_times_is_exact(ratios: list[float]) -> None:
    noise = np.random.default_rng(0).random(15) + 0.5
    ratio, (low, high) = geometric_ratio([noise * ratio for ratio in ratios], [noise] * len(ratios))
    assert ratio == pytest.approx(np.exp(np.mean(np.log(ratios))))
    assert low == pytest.approx(ratio)
    assert high == pytest.approx(ratio)
