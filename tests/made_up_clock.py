"""Made-up seconds instead of measured ones, for searches that time graphs."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compress.benchmark import statistics, tuning
from compress.benchmark.interleaving import Times


def replace_clock(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[str, int], float]) -> list[str]:
    """Replace the clock of tuning; returns a list that collects the names of the timed runners.

    Args:
        monkeypatch: of the test.
        seconds: by a runner's name and the tokens of its batch; some noise is added.
    """
    timed: list[str] = []

    def interleaved(runners: Any, batches: Any, rounds: int, limit: float, rng: np.random.Generator, advance: Any) -> Times:
        timed.extend(runners)
        return {name: seconds(name, batches[name][0]["input_ids"].size) * (1 + 0.001 * rng.random(9)) for name in runners}

    monkeypatch.setattr(tuning, "interleaved", interleaved)
    monkeypatch.setattr(tuning, "gc", SimpleNamespace(collect=lambda: 0))  # slow with torch loaded
    monkeypatch.setattr(statistics, "RESAMPLES", 100)  # quickly
    return timed
