"""A clock that only runners move, so that no test depends on the load of the machine."""

from __future__ import annotations

import types
from collections.abc import Callable

import numpy as np
import pytest

Batch = dict[str, np.ndarray]


class FakeClock:
    """Replaces `time` in modules by a clock that its runners advance.

    Args:
        monkeypatch: of the test.
        modules: that read the clock.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: types.ModuleType) -> None:
        self.now = 0.0
        clock = types.SimpleNamespace(perf_counter=lambda: self.now, monotonic=lambda: self.now)
        for module in modules:
            monkeypatch.setattr(module, "time", clock)

    def forward(self, name: str, seconds: float, calls: list[str]) -> Callable[[Batch], np.ndarray]:
        """Return a forward function that takes `seconds` and appends its name to `calls`."""

        def forward(batch: Batch) -> np.ndarray:
            calls.append(name)
            self.now += seconds
            return np.zeros((1, 2))

        return forward
