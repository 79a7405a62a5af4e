"""Compare two runtimes by measurement, and choose which one serves batches of how many tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from compress.benchmark.grid import Cell
from compress.benchmark.runners import ArrayBatch
from compress.benchmark.tuning import ROUNDS, SearchSpace, by_threads, compare_cell, describe_point, time_points
from compress.core import console
from compress.inference.batches import Forward
from compress.inference.routes import single_route
from compress.results.graphs import Route

MIN_LOG_GAIN = 0.03  # a second runtime must be about 3 % faster


def compare_runtimes(
    runtimes: Mapping[str, Callable[[int], Forward]], batch: Callable[[Cell], ArrayBatch], cells: Sequence[Cell], seed: int = 0
) -> tuple[list[Route], list[dict[str, object]]]:
    """Time two runtimes against each other; returns the routes of `compress.inference.runtime`, and the measurements by cell.

    Args:
        runtimes: by name, from a number of threads to a forward function. ONNX Runtime is the first.
        batch: returns the batch of a cell.
        cells: threads, batch sizes and lengths.
        seed: of the order within rounds.
    """
    first, second = runtimes
    points = [{"runtime": name} for name in runtimes]
    space = SearchSpace({}, points[0], lambda point, threads: runtimes[point["runtime"]](threads), lambda forward: None, batch)
    with console.progress("comparing runtimes", ROUNDS * len(cells)) as advance:
        times = time_points(space, points, cells, np.random.default_rng(seed), advance)
    names = {f"{point['runtime']}_ms": describe_point(point) for point in points}
    entries = [compare_cell(cell, measured, names) for cell, measured in zip(by_threads(cells), times, strict=True)]
    tokens = [(cell.seq_len or 0) * cell.batch_size for cell in by_threads(cells)]
    return routes(tokens, [_certain_speedup(entry) for entry in entries], (first, second)), entries


def _certain_speedup(entry: Mapping[str, Any]) -> float:
    """Return the speedup of a cell; 1 if it is within the noise."""
    speedup, (low, high) = entry["speedup"], entry["ci95"]
    return 1.0 if low <= 1 <= high else speedup


def routes(tokens: Sequence[int], speedups: Sequence[float], names: tuple[str, str]) -> list[Route]:
    """Return which runtime serves batches of how many tokens: at most one change, where the product of the times is least.

    The change lies at the geometric mean of the tokens around it. Cells that go to the second runtime must gain `MIN_LOG_GAIN`
    in the geometric mean: under other load a smaller gain was a loss. So must a change, because two runtimes take twice the memory.

    Args:
        tokens: of the batches that were measured.
        speedups: of the second runtime over the first on each.
        names: of the two.
    """
    sizes = sorted(set(tokens))
    gains = {
        size: sum(float(np.log(gain)) - MIN_LOG_GAIN for of, gain in zip(tokens, speedups, strict=True) if of == size) for size in sizes
    }
    total: dict[tuple[int, int], float] = {}  # (sizes below the change, runtime above it) -> log gain over the first runtime alone
    for above in (0, 1):
        for below in range(len(sizes)):
            to_second = sizes[below:] if above else sizes[:below]
            total[below, above] = sum(gains[size] for size in to_second)
    below, above = max(total, key=lambda key: total[key] - (MIN_LOG_GAIN * len(sizes) if key[0] else 0))
    if below == 0:
        return single_route(names[above])
    limit = int(np.sqrt(sizes[below - 1] * sizes[below]))
    return [{"up_to": limit, "runtime": names[1 - above]}, {"up_to": None, "runtime": names[above]}]
