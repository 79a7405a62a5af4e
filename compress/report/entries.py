"""Entries of evaluations and benchmarks: their cells and intervals."""

from __future__ import annotations

from typing import Any, TypeGuard

from compress.report.run_folder import Document

CELL = ("threads", "batch_size", "seq_len")


def is_interval(value: Any) -> TypeGuard[list[float]]:
    """Tell whether `value` is a pair of numbers: an interval that could not be computed has None in it."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(bound, int | float) for bound in value)


def cell_of(entry: Document) -> tuple[Any, ...]:
    """Return the threads, batch size and length of a benchmark's entry, and whether the length is the texts' own."""
    return (*(entry.get(key) for key in CELL), has_own_lengths(entry))


def has_own_lengths(entry: Document) -> bool:
    """Tell whether a benchmark's entry was timed on the task's texts; its `seq_len` is then their mean length."""
    return entry.get("lengths") == "task"
