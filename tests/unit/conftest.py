"""What the unit tests share besides `tests/conftest.py`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="session", autouse=True)
def _no_initial_values_for_meta_tensors() -> Iterator[None]:
    """Leave out the initialisation of tensors without values, as those of a checkpoint are at first: a third of the time of loading one."""

    def unless_meta(right: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda module: None if module.weight is not None and module.weight.is_meta else right(module)

    torch = sys.modules.get("torch")
    with pytest.MonkeyPatch.context() as patch:
        for kind in [torch.nn.Linear, torch.nn.Embedding, torch.nn.LayerNorm] if torch else []:
            patch.setattr(kind, "reset_parameters", unless_meta(kind.reset_parameters))
        yield


@pytest.fixture(scope="session", autouse=True)
def _precisions_are_not_timed() -> Iterator[None]:
    """Train in fp32 where the precision is left open, as on a processor without bf16: to time both takes longer than to train here."""
    module = sys.modules.get("compress.training.precision")
    with pytest.MonkeyPatch.context() as patch:
        if module:
            patch.setattr(module, "emulates_bf16", lambda: True)
        yield
