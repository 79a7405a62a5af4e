"""Keep a benchmark's threads where they should be, and restore the process's own settings afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_threads_restored(uses_torch: bool) -> Iterator[None]:
    """Restore PyTorch's number of threads on exit: it is a setting of the whole process."""
    if not uses_torch:
        yield
        return
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def pinned(count: int | None) -> Iterator[None]:
    """Keep this process, and the threads that it starts inside, on `count` of its cores (None: no change)."""
    if count is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
