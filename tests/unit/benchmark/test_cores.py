"""Pinning and PyTorch's threads."""

from __future__ import annotations

import os

import pytest
import torch

from compress.benchmark.cores import pinned, torch_threads_restored


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
    with pinned(None):
        assert os.sched_getaffinity(0) == before


def test_torchs_threads_are_restored() -> None:
    before = torch.get_num_threads()
    with torch_threads_restored(True):
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before
