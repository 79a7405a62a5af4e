"""Short timings of one model or two; no test here depends on the machine's clock."""

from __future__ import annotations

import numpy as np
import pytest

from compress.benchmark import microbenchmark
from compress.benchmark import runners as runners_module
from compress.benchmark.microbenchmark import MIN_SPEEDUP_ROUNDS, WARM_UPS, measure_speedup, median_seconds, random_batch
from tests.unit.benchmark.fake_clock import FakeClock

pytestmark = pytest.mark.usefixtures("few_resamples")


def test_a_speedup_measurement_interleaves(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = FakeClock(monkeypatch, runners_module, microbenchmark)
    ratio, interval = measure_speedup(clock.forward("before", 0.03, calls), clock.forward("after", 0.01, calls), {}, rounds=7)
    assert ratio == pytest.approx(3)
    assert interval == pytest.approx([3, 3])
    assert calls == ["before", "before", "after", "after"] * (7 + WARM_UPS)


def test_a_speedup_measurement_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = FakeClock(monkeypatch, runners_module, microbenchmark)
    ratio, _ = measure_speedup(clock.forward("before", 3.0, calls), clock.forward("after", 1.0, calls), {})
    assert ratio == pytest.approx(3)
    assert len(calls) == 4 * (MIN_SPEEDUP_ROUNDS + WARM_UPS)


@pytest.mark.parametrize(("vocab", "batch", "length"), [(105, 3, 7), (2, 1, 1), (30522, 2, 128)])
def test_random_batches_are_full_rows_of_tokens(vocab: int, batch: int, length: int) -> None:
    result = random_batch(np.random.default_rng(0), vocab, batch, length)
    assert all(array.shape == (batch, length) and array.dtype == np.int64 for array in result.values())
    assert (result["attention_mask"] == 1).all()
    assert (result["token_type_ids"] == 0).all()
    assert result["input_ids"].min() >= min(1000, vocab // 2)  # never the padding id
    assert result["input_ids"].max() < vocab


def test_the_median_leaves_out_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = FakeClock(monkeypatch, runners_module, microbenchmark)
    assert median_seconds(clock.forward("a", 0.5, calls), {}, runs=3) == pytest.approx(0.5)
    assert len(calls) == 3 + WARM_UPS
