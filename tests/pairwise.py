"""Combinations of parameters for tests: few of them, but every pair of values of two parameters occurs.

Faults of a combination are nearly always faults of two values that meet (Kuhn, Wallace and Gallo 2004). A full grid of three
parameters or more tests each pair many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product

Value = tuple[int, int]  # (parameter, position of its value)


def pairwise(*parameters: Sequence[object]) -> list[tuple[object, ...]]:
    """Return rows with one value of each parameter, such that every pair of values of two parameters is in some row.

    The same call returns the same rows: each begins with the first pair that is missing, and takes for every other parameter the
    value that brings the most missing pairs.

    >>> pairwise("ab", [1, 2], [True, False])
    [('a', 1, True), ('a', 2, False), ('b', 1, False), ('b', 2, True)]
    """
    if len(parameters) < 2:
        return [(value,) for values in parameters for value in values]
    missing = {
        pair: None for a, b in combinations(range(len(parameters)), 2) for pair in product(_values(parameters, a), _values(parameters, b))
    }
    rows: list[tuple[object, ...]] = []
    while missing:
        row = dict(next(iter(missing)))
        for parameter in range(len(parameters)):
            if parameter not in row:
                row[parameter] = max(_values(parameters, parameter), key=lambda value: _gain(value, row, missing))[1]
        for pair in combinations(sorted(row.items()), 2):
            missing.pop(pair, None)
        rows.append(tuple(parameters[parameter][row[parameter]] for parameter in range(len(parameters))))
    return rows


def _values(parameters: Sequence[Sequence[object]], parameter: int) -> list[Value]:
    return [(parameter, position) for position in range(len(parameters[parameter]))]


def _gain(value: Value, row: dict[int, int], missing: dict[tuple[Value, Value], None]) -> int:
    """Return how many missing pairs a value forms with the values of a row."""
    return sum((min(value, other), max(value, other)) in missing for other in row.items())
