"""The latency table against a clock whose rules are known, and against real models of the runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from compress.benchmark.microbenchmark import random_batch
from compress.inference.forward import torch_forward
from compress.models.model_shape import model_shape
from compress.models.shape import LayerShape, Shape
from compress.prune import latency_table as module
from compress.prune.latency_table import latency_table, measure_table, skeleton
from compress.prune.serving_clock import Serving
from tests import tiny


def clock(shape: Sequence[tuple[int, int]], first_token: bool) -> float:
    """Milliseconds of a model: three fixed; a head 2, a neuron 0.01, what is gone 0.5; a tenth where one token is left."""
    mixing = [number for number, (heads, _) in enumerate(shape) if heads]
    last = (mixing[-1] if mixing else -1) if first_token else len(shape)
    total = 3.0
    for number, (heads, ffn) in enumerate(shape):
        share = 1.0 if number < last else 0.0
        tenth = 0.0 if number < last else 0.1
        total += (2 * heads + (0.5 if share else 0)) * share + 2 * heads * tenth
        total += (0.01 * ffn + (0.5 if share else 0)) * share + 0.01 * ffn * tenth
    return total


@pytest.mark.parametrize("first_token", [True, False])
def test_the_table_predicts_every_shape_of_a_clock(first_token: bool) -> None:
    def times(shapes: Sequence[Any]) -> np.ndarray:
        return np.array([clock(shape, first_token) / 1e3 for shape in shapes])

    costs = module._costs(measure_table(times, 12, 1536, first_token), 12, 1536)
    rng = np.random.default_rng(0)
    for _ in range(50):
        layers = [(int(rng.integers(0, 13)), int(rng.integers(0, 97)) * 16) for _ in range(6)]
        shape = Shape(384, 32, tuple(LayerShape(*layer) for layer in layers))
        assert costs.total(shape) == pytest.approx(clock(layers, first_token), rel=1e-6)


def test_noise_makes_no_cost_negative_or_falling() -> None:
    rng = np.random.default_rng(0)

    def times(shapes: Sequence[Any]) -> np.ndarray:
        return np.array([clock(shape, True) / 1e3 * rng.uniform(0.5, 1.5) for shape in shapes])

    for _ in range(20):
        costs = module._costs(measure_table(times, 12, 1536, True), 12, 1536)
        assert costs.last is not None
        for part in (costs.heads, costs.neurons, *costs.last):
            assert part[0] >= 0
            assert (np.diff(part) >= -1e-12).all()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_skeleton_has_the_wanted_layers_and_runs(family: str) -> None:
    small = skeleton(tiny.make_model(family), ((2, 16), (0, 0)))
    assert [(layer.heads, layer.ffn) for layer in model_shape(small).layers] == [(2, 16), (0, 0)]
    assert np.isfinite(torch_forward(small)(random_batch(np.random.default_rng(0), small.config.vocab_size, 1, 9))).all()


def test_a_table_is_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    calls: list[int] = []
    times = module._times

    def counted(*arguments: Any) -> np.ndarray:
        calls.append(1)
        return times(*arguments)

    monkeypatch.setattr(module, "_times", counted)
    monkeypatch.setattr(module, "ROUNDS", 3)
    first, again = (latency_table(tiny.make_model(), Serving(seq_len=8)) for _ in range(2))
    assert len(calls) == 1
    shape = model_shape(tiny.make_model())
    assert first.total(shape) == again.total(shape) > 0
    latency_table(tiny.make_model(), Serving(seq_len=9))
    assert len(calls) == 2
