"""Every metric equals its reference: `eval/oracles.py` on fewer sets."""

from __future__ import annotations

import pytest

from eval import oracles


@pytest.mark.parametrize("check", oracles.CHECKS, ids=lambda check: f"{check[0]} of {check[1]}")
def test_metrics_equal_their_references(check: tuple[str, str, str, oracles.Draw, oracles.Reference]) -> None:
    metric, _, _, draw, reference = check
    assert oracles.largest_difference(metric, draw, reference, 20, 1) <= oracles.TOLERANCE
