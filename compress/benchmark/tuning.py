"""Find the fastest of many ways to run one model by measurement: a greedy search along one axis after the other.

A way is a point: one value per axis (`attention`, `fusions`, …). Along each axis the alternatives are timed against the best
so far and against the start, interleaved; the fastest replaces the best if it is faster beyond the noise. So 2 + 2 + 3 values
cost 7 measurements, not 12, and the order of the axes hardly matters if they do not depend on each other.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from compress.benchmark.grid import Cell
from compress.benchmark.interleaving import Times, interleaved
from compress.benchmark.runners import ArrayBatch, ClockRunner, Runner
from compress.benchmark.statistics import geometric_ratio, median_ratio
from compress.core import console
from compress.core.errors import ModelError
from compress.inference.batches import Forward
from compress.results.graphs import TuningDocument, TuningRow

ROUNDS = 40  # per cell and axis
SECONDS = 6.0  # for all cells of an axis
MIN_GAIN = 1.01  # a speedup below 1 % is not worth another form
Point = dict[str, str]
CellTimes = list[Times]
"""The times of each point in each cell, in the order of `by_threads`."""


@dataclass(frozen=True)
class SearchSpace:
    """The points of a search, and how they are opened, verified and timed.

    Attributes:
        axes: values by axis, searched in this order; an axis with one value is not searched.
        start: a point that works.
        open_point: opens a point with a number of threads; raises ModelError if it cannot be opened.
        check: returns what is wrong with the logits of a forward function, or None.
        batch: returns the batch of a cell.
    """

    axes: Mapping[str, Sequence[str]]
    start: Point
    open_point: Callable[[Point, int], Forward]
    check: Callable[[Forward], str | None]
    batch: Callable[[Cell], ArrayBatch]


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    Attributes:
        winner: the fastest point.
        table: what was measured of each point, relative to the start.
        cells: what was measured of the winner in each cell.
    """

    winner: Point
    table: list[TuningRow]
    cells: list[dict[str, object]]

    def as_json(self) -> TuningDocument:
        """Return the fields as a JSON document."""
        return {"winner": self.winner, "table": self.table, "cells": self.cells}


def search(space: SearchSpace, cells: Sequence[Cell], seed: int = 0) -> SearchResult:
    """Return the fastest point by the geometric mean over the cells.

    The winner is the start unless another point is faster beyond the noise, and still faster when both are timed again.

    Args:
        space: the points.
        cells: threads, batch sizes and lengths.
        seed: of the order within rounds.
    """
    start, best, rng = space.start, dict(space.start), np.random.default_rng(seed)
    table: list[TuningRow] = [{"point": dict(start), "speedup": 1.0, "ci95": [1.0, 1.0]}]
    alternatives = {axis: [value for value in values if value != start[axis]] for axis, values in space.axes.items()}
    alternatives = {axis: values for axis, values in alternatives.items() if values}
    with console.progress("tuning", (len(alternatives) + 1) * ROUNDS * len(cells)) as advance:
        for axis, values in alternatives.items():
            points, refused = _verified(space, [best | {axis: value} for value in values], cells[0].threads)
            table += refused
            if points:
                times = time_points(space, [start, best, *points], cells, rng, partial(advance, 1, axis))
                table += [_row(times, start, point) for point in points]
                best = _fastest(times, best, points)
        times = time_points(space, [start, best], cells, rng, partial(advance, 1, "again"))
    if _speedup(times, start, best)[0] <= 1:
        best = dict(start)
    return SearchResult(best, table, _by_cell(times, start, best, cells))


def _fastest(times: CellTimes, best: Point, points: Sequence[Point]) -> Point:
    """Return the fastest of the points if it is faster than the best so far, by `MIN_GAIN` and beyond the noise; else the best."""
    speedups = [_speedup(times, best, point) for point in points]
    top = max(range(len(points)), key=lambda number: speedups[number][0])
    ratio, interval = speedups[top]
    return points[top] if ratio >= MIN_GAIN and interval[0] > 1 else best


def _verified(space: SearchSpace, points: Sequence[Point], threads: int) -> tuple[list[Point], list[TuningRow]]:
    """Return the points that open and compute the right logits, and a row with the reason for each that does not."""
    verified: list[Point] = []
    refused: list[TuningRow] = []
    for point in points:
        try:
            reason = space.check(space.open_point(point, threads))
        except ModelError as error:
            reason = error.message
        if reason is None:
            verified.append(point)
        else:
            console.info(f"  not used: {describe_point(point)}: {reason}")
            refused.append({"point": point, "refused": reason})
    return verified, refused


def time_points(
    space: SearchSpace, points: Sequence[Point], cells: Sequence[Cell], rng: np.random.Generator, advance: Callable[[], None]
) -> CellTimes:
    """Time points in turns in every cell, equal points once; their times are under `describe_point`."""
    distinct = {describe_point(point): point for point in points}
    measurements: CellTimes = []
    for threads in dict.fromkeys(cell.threads for cell in cells):
        runners: dict[str, Runner] = {name: ClockRunner(space.open_point(point, threads)) for name, point in distinct.items()}
        for cell in (cell for cell in cells if cell.threads == threads):
            batch = space.batch(cell)
            measurements.append(interleaved(runners, {name: [batch] for name in runners}, ROUNDS, SECONDS / len(cells), rng, advance))
        del runners
        gc.collect()
    return measurements


def by_threads(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells in the order of measurement: grouped by their number of threads."""
    return [cell for threads in dict.fromkeys(cell.threads for cell in cells) for cell in cells if cell.threads == threads]


def describe_point(point: Point) -> str:
    """Return a point as text: `attention plain, fusions all`."""
    return ", ".join(f"{axis} {value}" for axis, value in point.items())


def _speedup(times: CellTimes, before: Point, after: Point) -> tuple[float, tuple[float, float]]:
    """Return the geometric mean of the speedups over the cells, and its 95 % interval."""
    return geometric_ratio([cell[describe_point(before)] for cell in times], [cell[describe_point(after)] for cell in times])


def _row(times: CellTimes, start: Point, point: Point) -> TuningRow:
    ratio, interval = _speedup(times, start, point)
    return {"point": point, "speedup": ratio, "ci95": list(interval)}


def _by_cell(times: CellTimes, start: Point, best: Point, cells: Sequence[Cell]) -> list[dict[str, object]]:
    """Return the latency of start and winner in each cell, in milliseconds, and their ratio."""
    names = {"start_ms": describe_point(start), "winner_ms": describe_point(best)}
    return [compare_cell(cell, measured, names) for cell, measured in zip(by_threads(cells), times, strict=True)]


def compare_cell(cell: Cell, times: Times, names: Mapping[str, str]) -> dict[str, object]:
    """Return a cell with the median latency of two runners in milliseconds, and the speedup of the second.

    Args:
        cell: the cell.
        times: by runner.
        names: the two runners by the keys of their latencies.
    """
    baseline, candidate = names.values()
    ratio, interval = median_ratio(times[baseline], times[candidate])
    medians = {key: float(1e3 * np.median(times[name])) for key, name in names.items()}
    shape = {"threads": cell.threads, "batch_size": cell.batch_size, "seq_len": cell.seq_len}
    return {**shape, **medians, "speedup": ratio, "ci95": list(interval)}
