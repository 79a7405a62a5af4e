"""Find the fastest of many ways to run one model by measuring them: a greedy search along one axis after the other.

A way is a point: one value for each axis (`attention`, `fusions`, …). Along each axis the alternatives are timed against the
best so far and against the start, interleaved; the fastest takes its place if it is faster beyond the noise. So 2 + 2 + 3
values cost 7 measurements, not 12, and the order of the axes matters little where they do not depend on each other.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from compress.benchmark.latency import Cell, Times, interleaved
from compress.benchmark.runners import ClockRunner, Runner
from compress.benchmark.statistics import geometric_ratio, median_ratio
from compress.core import console
from compress.core.errors import ModelError
from compress.inference.batches import Forward
from compress.inference.routes import single_route

ROUNDS = 40  # of each cell, along each axis
SECONDS = 6.0  # for all cells of an axis
GAIN = 1.01  # a gain below 1 % is not worth another form
WORTHWHILE = 0.03  # nor one below 3 % a second runtime
Point = dict[str, str]
Batch = dict[str, np.ndarray]
Measurements = list[Times]  # by cell


@dataclass(frozen=True)
class SearchSpace:
    """What a search may open and has to check.

    Args:
        open_point: from a point and a number of threads to its forward function; raises ModelError where there is none.
        check: from a forward function to what is wrong with it, in words, or None.
        batch: of a cell.
    """

    open_point: Callable[[Point, int], Forward]
    check: Callable[[Forward], str | None]
    batch: Callable[[Cell], Batch]


@dataclass(frozen=True)
class Tuned:
    """The fastest point, what was measured of each point on the way (against the start), and of the winner in each cell."""

    winner: Point
    table: list[dict[str, Any]]
    cells: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Return the fields as a JSON document."""
        return {"winner": self.winner, "table": self.table, "cells": self.cells}


def search(axes: Mapping[str, Sequence[str]], start: Point, ways: SearchSpace, cells: Sequence[Cell], seed: int = 0) -> Tuned:
    """Return the fastest point by the geometric mean over the cells.

    Args:
        axes: values by axis, searched in this order; those of one value are left alone.
        start: a point that works.
        ways: how points are opened and checked.
        cells: threads, batch sizes and lengths.
        seed: of the order within rounds.

    Returns:
        the winner, which is the start unless another is faster beyond the noise, and again when both are timed once more.
    """
    best, rng = dict(start), np.random.default_rng(seed)
    table: list[dict[str, Any]] = [{"point": dict(start), "speedup": 1.0, "ci95": [1.0, 1.0]}]
    tried = {axis: [value for value in values if value != start[axis]] for axis, values in axes.items()}
    tried = {axis: values for axis, values in tried.items() if values}
    with console.progress("tuning", (len(tried) + 1) * ROUNDS * len(cells)) as advance:
        for axis, values in tried.items():
            points, refused = _checked([best | {axis: value} for value in values], ways, cells[0].threads)
            table += refused
            if points:
                times = _measured([start, best, *points], ways, cells, rng, partial(advance, 1, axis))
                table += [{"point": point, **_gain(times, start, point)} for point in points]
                best = _fastest(times, best, points)
        times = _measured([start, best], ways, cells, rng, partial(advance, 1, "once more"))
    if _gain(times, start, best)["speedup"] <= 1:
        best = dict(start)
    return Tuned(best, table, _by_cell(times, start, best, cells))


def _fastest(times: Measurements, best: Point, points: Sequence[Point]) -> Point:
    """Return the fastest of the points if it is faster than the best so far, by `GAIN` and beyond the noise; else that."""
    gains = [_gain(times, best, point) for point in points]
    top = max(range(len(points)), key=lambda number: gains[number]["speedup"])
    return points[top] if gains[top]["speedup"] >= GAIN and gains[top]["ci95"][0] > 1 else best


def _checked(points: Sequence[Point], ways: SearchSpace, threads: int) -> tuple[list[Point], list[dict[str, Any]]]:
    """Return the points that open and give the right logits, and an entry with the reason for each that does not."""
    kept, refused = [], []
    for point in points:
        try:
            reason = ways.check(ways.open_point(point, threads))
        except ModelError as error:
            reason = error.message
        if reason is None:
            kept.append(point)
        else:
            console.info(f"  not used: {describe_point(point)}: {reason}")
            refused.append({"point": point, "refused": reason})
    return kept, refused


def _measured(
    points: Sequence[Point], ways: SearchSpace, cells: Sequence[Cell], rng: np.random.Generator, advance: Callable[[], None]
) -> Measurements:
    """Time points in turns in every cell; equal ones once."""
    wanted = {describe_point(point): point for point in points}
    found: Measurements = []
    for threads in dict.fromkeys(cell.threads for cell in cells):
        runners: dict[str, Runner] = {name: ClockRunner(ways.open_point(point, threads)) for name, point in wanted.items()}
        for cell in (cell for cell in cells if cell.threads == threads):
            batch = ways.batch(cell)
            found.append(interleaved(runners, {name: [batch] for name in runners}, ROUNDS, SECONDS / len(cells), rng, advance))
        del runners
        gc.collect()
    return found


def describe_point(point: Point) -> str:
    """Write a point as words: `attention plain, fusions all`."""
    return ", ".join(f"{axis} {value}" for axis, value in point.items())


def _gain(times: Measurements, before: Point, after: Point) -> dict[str, Any]:
    ratio, interval = geometric_ratio([cell[describe_point(before)] for cell in times], [cell[describe_point(after)] for cell in times])
    return {"speedup": ratio, "ci95": list(interval)}


def _by_cell(times: Measurements, start: Point, best: Point, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return what start and winner take in each cell, in milliseconds, and their ratio."""
    entries = []
    for cell, found in zip(in_order(cells), times, strict=True):
        before, after = found[describe_point(start)], found[describe_point(best)]
        ratio, interval = median_ratio(before, after)
        p50 = {"start_ms": float(1e3 * np.median(before)), "winner_ms": float(1e3 * np.median(after))}
        entries.append({**_where(cell), **p50, "speedup": ratio, "ci95": list(interval)})
    return entries


def in_order(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells as they are measured: one number of threads after the other."""
    return [cell for threads in dict.fromkeys(cell.threads for cell in cells) for cell in cells if cell.threads == threads]


def _where(cell: Cell) -> dict[str, int | None]:
    return {"threads": cell.threads, "batch_size": cell.batch_size, "seq_len": cell.seq_len}


def compare_runtimes(
    runtimes: Mapping[str, Callable[[int], Forward]], batch: Callable[[Cell], Batch], cells: Sequence[Cell], seed: int = 0
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Time two runtimes against each other; returns the routes of `compress.inference.routes`, and what was measured by cell.

    Args:
        runtimes: by name, from a number of threads to a forward function. ONNX Runtime is the first.
        batch: of a cell.
        cells: threads, batch sizes and lengths.
        seed: of the order within rounds.
    """
    first, second = runtimes
    points = [{"runtime": name} for name in runtimes]
    ways = SearchSpace(lambda point, threads: runtimes[point["runtime"]](threads), lambda forward: None, batch)
    with console.progress("comparing runtimes", ROUNDS * len(cells)) as advance:
        times = _measured(points, ways, cells, np.random.default_rng(seed), advance)
    entries = []
    for cell, found in zip(in_order(cells), times, strict=True):
        seconds = {point["runtime"]: found[describe_point(point)] for point in points}
        ratio, interval = median_ratio(seconds[first], seconds[second])
        p50 = {f"{name}_ms": float(1e3 * np.median(values)) for name, values in seconds.items()}
        entries.append({**_where(cell), **p50, "speedup": ratio, "ci95": list(interval)})
    tokens = [(cell.seq_len or 0) * cell.batch_size for cell in in_order(cells)]
    gains = [1.0 if entry["ci95"][0] <= 1 <= entry["ci95"][1] else entry["speedup"] for entry in entries]  # within the noise
    return routes(tokens, gains, (first, second)), entries


def routes(tokens: Sequence[int], speedups: Sequence[float], names: tuple[str, str]) -> list[dict[str, Any]]:
    """Return which runtime takes batches of how many tokens: at most one change, where the times' product is least.

    The change lies at the geometric mean of the tokens around it. What goes to the second runtime has to gain `WORTHWHILE` in the
    geometric mean: beside other work a smaller gain was a loss. So has a change: two runtimes take twice the memory.

    Args:
        tokens: of the batches that were measured.
        speedups: how many times as fast the second runtime is on each.
        names: of the two.
    """
    sizes = sorted(set(tokens))
    gains = {size: sum(float(np.log(gain)) - WORTHWHILE for of, gain in zip(tokens, speedups, strict=True) if of == size) for size in sizes}
    found: dict[tuple[int, int], float] = {}  # (batches below the change, runtime above it) -> gain over the first runtime alone
    for above in (0, 1):
        for below in range(len(sizes)):
            sent = sizes[below:] if above else sizes[:below]
            found[below, above] = sum(gains[size] for size in sent)
    below, above = max(found, key=lambda key: found[key] - (WORTHWHILE * len(sizes) if key[0] else 0))
    if below == 0:
        return single_route(names[above])
    limit = int(np.sqrt(sizes[below - 1] * sizes[below]))
    return [{"up_to": limit, "runtime": names[1 - above]}, {"up_to": None, "runtime": names[above]}]
