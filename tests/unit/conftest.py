"""What the unit tests share besides `tests/conftest.py`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import onnxruntime
import pytest


@pytest.fixture(scope="session", autouse=True)
def _nothing_waits_for_the_disk() -> Iterator[None]:
    """Leave out `fsync`: no unit test outlives a power failure, and a busy disk takes milliseconds for each of thousands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _one_thread_per_session() -> Iterator[None]:
    """Let ONNX Runtime compute in the calling thread, unless a test asks for threads: those of its pool spin for more than they compute."""
    right = onnxruntime.InferenceSession.__init__

    def init(session: Any, graph: Any, sess_options: Any = None, *args: Any, **options: Any) -> None:
        sess_options = sess_options or onnxruntime.SessionOptions()
        sess_options.intra_op_num_threads = sess_options.intra_op_num_threads or 1
        right(session, graph, sess_options, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime.InferenceSession, "__init__", init)
        yield
