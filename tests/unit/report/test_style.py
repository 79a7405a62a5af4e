"""Axes of the charts."""

from __future__ import annotations

import pytest

from compress.report.style import log_ticks


@pytest.mark.parametrize(("low", "high"), [(0.8, 40), (7.1, 9.3), (1, 1000), (0.04, 0.05)])
def test_ticks_of_the_logarithmic_axis(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 16
    assert ticks == sorted(ticks)
    assert low <= ticks[0] < ticks[-1] <= high
