"""Outputs that are kept while a search runs: its baseline is compared with every candidate, and need not compute them again each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compress.core import digests
from compress.data.task import Task
from compress.models.layout import is_graph
from compress.models.reference import digest_model

MOST = 4  # outputs that are kept, those that were used last: the baseline's on each split, and the first of a pair that is compared

_kept: dict[str, Any] | None = None


@contextmanager
def keeping_outputs() -> Iterator[None]:
    """Keep outputs in memory until the end of this context; contexts do not nest."""
    global _kept
    _kept = {}
    try:
        yield
    finally:
        _kept = None


def keep_outputs() -> None:
    """Keep outputs in memory until the process ends: for one that runs the stages of searches, one call a stage."""
    global _kept
    if _kept is None:
        _kept = {}


def kept_outputs(folder: Path, task: Task, asked: Sequence[object], compute: Callable[[], Any]) -> Any:
    """Return a checkpoint's outputs: those that were kept of one with the same digest, else new ones, which are kept.

    Without `keeping_outputs` or `keep_outputs`, and of a graph, whose hints belong to its runtime, nothing is kept.

    Args:
        folder: of the model.
        task: whose data it reads; its fingerprint counts.
        asked: what else decides the outputs, as JSON: the split, the device.
        compute: computes the outputs.
    """
    if _kept is None or is_graph(folder):
        return compute()
    key = digests.digest_json([digest_model(folder), task.fingerprint, *asked])
    _kept[key] = _kept.pop(key) if key in _kept else compute()
    while len(_kept) > MOST:
        del _kept[next(iter(_kept))]
    return _kept[key]
