"""The latency table against a clock whose rules are known, and against real models of the runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from compress.benchmark.microbenchmark import random_batch
from compress.core import files
from compress.inference.forward import torch_forward
from compress.models.model_shape import model_shape
from compress.models.shape import LayerShape, Shape
from compress.prune import latency_table as module
from compress.prune.latency_table import interpolated, latency_table, measure_table, skeleton, time_models
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

    costs = interpolated(measure_table(times, 12, 1536, first_token), 12, 1536)
    rng = np.random.default_rng(0)
    for _ in range(50):
        layers = [(int(rng.integers(0, 13)), int(rng.integers(0, 97)) * 16) for _ in range(6)]
        shape = Shape(384, 32, tuple(LayerShape(*layer) for layer in layers))
        assert costs.total(shape) == pytest.approx(clock(layers, first_token), rel=1e-6)


@pytest.mark.parametrize("first_token", [True, False])
def test_the_smallest_width_costs_what_is_around_its_matmuls(first_token: bool) -> None:
    """Quantizing, activation and residual sum cost half a millisecond, from the first neurons on."""

    def times(shapes: Sequence[Any]) -> np.ndarray:
        return np.array([clock(shape, first_token) + 0.5 * sum(ffn > 0 for _, ffn in shape) for shape in shapes]) / 1e3

    costs = interpolated(measure_table(times, 12, 1536, first_token), 12, 1536)
    layers = [(4, 16), (2, 0), (1, 16), (3, 32)]
    expected = clock(layers, first_token) + 0.5 * 3
    assert costs.total(Shape(384, 32, tuple(LayerShape(*layer) for layer in layers))) == pytest.approx(expected, rel=1e-6)


def test_noise_makes_no_cost_negative_or_falling() -> None:
    rng = np.random.default_rng(0)

    def times(shapes: Sequence[Any]) -> np.ndarray:
        return np.array([clock(shape, True) / 1e3 * rng.uniform(0.5, 1.5) for shape in shapes])

    for _ in range(20):
        costs = interpolated(measure_table(times, 12, 1536, True), 12, 1536)
        assert costs.last is not None
        for part in (costs.heads, costs.neurons, *costs.last):
            assert part[0] >= 0
            assert (np.diff(part) >= -1e-12).all()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_skeleton_has_the_wanted_layers_and_runs(family: str) -> None:
    small = skeleton(tiny.make_model(family), ((2, 16), (0, 0)))
    assert [(layer.heads, layer.ffn) for layer in model_shape(small).layers] == [(2, 16), (0, 0)]
    assert np.isfinite(torch_forward(small)(random_batch(np.random.default_rng(0), small.config.vocab_size, 1, 9))).all()


def counted_times(sizes: Sequence[Any]) -> np.ndarray:
    """Seconds of a clock without noise."""
    return np.array([clock(layers, True) / 1e3 for layers in sizes])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> list[int]:
    """An empty cache, and models that are not really timed; counts the measurements."""
    calls: list[int] = []

    def time_models(model: Any, serving: Serving, sizes: Sequence[Any]) -> np.ndarray:
        calls.append(len(sizes))
        return counted_times(sizes)

    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "time_models", time_models)
    return calls


def test_a_table_is_measured_once(measured: list[int]) -> None:
    first, again = (latency_table(tiny.make_model(), Serving(seq_len=8)) for _ in range(2))
    assert len(measured) == 1
    shape = model_shape(tiny.make_model())
    assert first.total(shape) == again.total(shape) == pytest.approx(clock([(layer.heads, layer.ffn) for layer in shape.layers], True))
    latency_table(tiny.make_model(), Serving(seq_len=9))
    assert len(measured) == 2


def test_a_damaged_table_is_measured_again(measured: list[int], tmp_path: Any) -> None:
    latency_table(tiny.make_model(), Serving(seq_len=8))
    (path,) = (tmp_path / "latency").iterdir()
    path.write_text("{", encoding="utf-8")
    latency_table(tiny.make_model(), Serving(seq_len=8))
    assert len(measured) == 2
    document = files.read_json(path)
    del document["measured"]["heads"]
    files.write_json(path, document)
    latency_table(tiny.make_model(), Serving(seq_len=8))  # a table that lacks a part is damaged, too
    assert len(measured) == 3


@pytest.mark.parametrize("error", [KeyError, IndexError, ValueError])
def test_an_error_of_our_own_in_the_interpolation_is_no_damaged_table(
    measured: list[int], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(*_: Any) -> None:
        raise error("a fault in our code")

    monkeypatch.setattr(module, "interpolated", broken)
    for _ in ("measured now", "from the cache"):
        with pytest.raises(error, match="a fault in our code"):
            latency_table(tiny.make_model(), Serving(seq_len=8))
    assert len(measured) == 1


def test_models_are_timed_in_the_order_that_was_given() -> None:
    """On the real clock: seconds are positive and finite, one for each model."""
    sizes = [((1, 16),), ((0, 0),), ((4, 64),) * 2]
    seconds = time_models(tiny.make_model(), Serving("pytorch", seq_len=8), sizes)
    assert seconds.shape == (3,)
    assert np.isfinite(seconds).all()
    assert (seconds > 0).all()
