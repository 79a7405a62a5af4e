"""Entries of evaluations and benchmarks: their cells and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from compress.report.run_folder import Document

CELL = ("threads", "batch_size", "seq_len")
CellKey = tuple[object, ...]  # the values of `CELL`, and whether the task's texts were timed


def is_interval(value: object) -> TypeGuard[list[float]]:
    """Return whether `value` is a pair of numbers; an interval that could not be computed contains None."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(bound, int | float) for bound in value)


def cell_of(entry: Document) -> CellKey:
    """Return the threads, batch size and length of a benchmark's entry, and whether the task's texts were timed."""
    return (*(entry.get(key) for key in CELL), has_own_lengths(entry))


def has_own_lengths(entry: Document) -> bool:
    """Return whether a benchmark's entry was timed on the task's texts; `seq_len` is then their mean length."""
    return entry.get("lengths") == "task"


def noise_floor(controls: Sequence[Document]) -> float | None:
    """Return the largest deviation from 1, in %, that the intervals of the A/A controls contain; None without intervals."""
    bounds = [bound for entry in controls if is_interval(entry.get("ci95")) for bound in entry["ci95"]]
    return 100 * max(abs(bound - 1) for bound in bounds) if bounds else None
