"""Weights in int8: rounding within half a step of their channel."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compress.quantize.int8_weights import quantize_weight


@given(st.integers(1, 20), st.integers(1, 20), st.floats(1e-6, 1e6), st.sampled_from([64, 127]))
def test_weights_are_within_half_a_step_of_their_own_channel(rows: int, columns: int, size: float, levels: int) -> None:
    weight = (np.random.default_rng(rows * columns).normal(size=(rows, columns)) * size).astype(np.float32)
    codes, scales = quantize_weight(weight, levels)
    assert codes.dtype == np.int8
    assert scales.shape == (columns,)
    assert (np.abs(codes * scales - weight) <= 0.5001 * scales).all()
    assert (np.abs(codes.astype(int)).max(axis=0) == levels).all()
