"""Models timed in turns; no test here depends on the machine's clock."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import numpy as np
import pytest

from compress.benchmark import interleaving
from compress.benchmark import runners as runners_module
from compress.benchmark.interleaving import interleaved
from compress.benchmark.microbenchmark import WARM_UPS
from compress.benchmark.runners import ClockRunner
from tests.unit.benchmark.fake_clock import FakeClock

CONTROL = "control"


def measure(
    monkeypatch: pytest.MonkeyPatch, speeds: dict[str, float], rounds: int, seconds: float
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Run the rounds of two models and a control; returns the times and the order of the calls."""
    calls: list[str] = []
    clock = FakeClock(monkeypatch, runners_module, interleaving)
    runners: dict[str, Any] = {name: ClockRunner(clock.forward(name, taken, calls)) for name, taken in speeds.items()}
    runners[CONTROL] = runners[next(iter(speeds))]
    times = interleaved(runners, {name: [{}] for name in runners}, rounds, seconds, np.random.default_rng(0), lambda: None)
    return times, calls


def test_every_round_runs_every_model_once_after_a_warming_call(monkeypatch: pytest.MonkeyPatch) -> None:
    times, calls = measure(monkeypatch, {"a": 0.003, "b": 0.001}, rounds=20, seconds=3600.0)
    runners = 3  # a, b and the control, which is a again
    assert calls[: WARM_UPS * runners] == ["a"] * WARM_UPS + ["b"] * WARM_UPS + ["a"] * WARM_UPS
    rounds = np.array(calls[WARM_UPS * runners :]).reshape(20, runners, 2)
    assert (rounds[:, :, 0] == rounds[:, :, 1]).all()  # the warming call and the timed one
    assert all(Counter(turn) == {"a": 2, "b": 1} for turn in rounds[:, :, 0].tolist())
    assert len({tuple(turn) for turn in rounds[:, :, 0].tolist()}) == 3  # shuffled
    assert {name: len(values) for name, values in times.items()} == {"a": 20, "b": 20, CONTROL: 20}
    np.testing.assert_allclose(times["a"], 0.003)
    np.testing.assert_allclose(times["b"], 0.001)


@pytest.mark.parametrize(("seconds", "expected"), [(0.001, 5), (0.01, 5), (0.35, 18), (3600.0, 40)])
def test_the_time_limit_stops_after_five_rounds_at_least(monkeypatch: pytest.MonkeyPatch, seconds: float, expected: int) -> None:
    times, _ = measure(monkeypatch, {"a": 0.005}, rounds=40, seconds=seconds)
    assert len(times["a"]) == expected


def test_garbage_collection_is_off_while_timing_and_on_again_after(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[bool] = []

    def forward(batch: Any) -> np.ndarray:
        states.append(gc.isenabled())
        if len(states) > 20:
            raise RuntimeError("stop here")
        return np.zeros((1, 2))

    with pytest.raises(RuntimeError, match="stop here"):
        interleaved({"a": ClockRunner(forward)}, {"a": [{}]}, 100, 3600.0, np.random.default_rng(0), lambda: None)
    assert not any(states[WARM_UPS:])
    assert gc.isenabled()
