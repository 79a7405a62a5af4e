"""Outputs of a baseline are kept: for a context, or until the process ends."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from compress.data.task import Task
from compress.inference import kept_outputs as module
from compress.inference.kept_outputs import MOST, keep_outputs, keeping_outputs, kept_outputs
from tests.conftest import Maker

TASK = cast("Task", SimpleNamespace(fingerprint="data"))


@pytest.fixture
def process() -> Iterator[None]:
    """A process that keeps outputs, as that of a node does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_kept", None)
        keep_outputs()
        yield


def computed(checkpoint: Maker, *asked: object) -> bool:
    """Return whether the outputs of a question were computed now."""
    runs: list[int] = []
    kept_outputs(checkpoint(), TASK, asked, lambda: runs.append(1) or len(runs))
    return bool(runs)


@pytest.mark.usefixtures("process")
def test_a_process_keeps_outputs_from_call_to_call(checkpoint: Maker) -> None:
    assert computed(checkpoint, "validation")
    keep_outputs()  # the next stage
    assert not computed(checkpoint, "validation")
    assert computed(checkpoint, "test")


@pytest.mark.usefixtures("process")
def test_those_that_were_used_last_are_kept(checkpoint: Maker) -> None:
    for number in range(MOST):
        assert computed(checkpoint, number)
    assert not computed(checkpoint, 0)
    assert computed(checkpoint, MOST)  # in place of 1, which was used before the others
    assert not computed(checkpoint, 0)
    assert computed(checkpoint, 1)


def test_nothing_is_kept_beyond_a_context(checkpoint: Maker) -> None:
    assert computed(checkpoint)
    with keeping_outputs():
        assert computed(checkpoint)
        assert not computed(checkpoint)
    assert computed(checkpoint)
