"""Intervals and the noise floor."""

from __future__ import annotations

import pytest

from compress.report.entries import is_interval, noise_floor


def test_intervals() -> None:
    assert is_interval([0.9, 1])
    assert not any(is_interval(value) for value in (None, [], [1.0], [None, 1.0], (0.9, 1.1), "ab"))


def test_the_noise_floor_is_the_largest_deviation() -> None:
    assert noise_floor([{"ci95": [0.98, 1.01]}, {"ci95": [0.99, 1.05]}, {"ci95": [None, None]}, {}]) == pytest.approx(5)
    assert noise_floor([]) is None
