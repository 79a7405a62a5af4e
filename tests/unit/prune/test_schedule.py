"""Steps to a target."""

from __future__ import annotations

import numpy as np
import pytest

from compress.prune.schedule import FIRST_STEP, step_shares


def test_steps_lead_to_the_share_by_equal_factors() -> None:
    assert step_shares(0.8, None) == [0.8]
    shares = step_shares(0.1, None)
    assert shares[-1] == pytest.approx(0.1)
    factors = np.array(shares) / np.array([1.0, *shares[:-1]])
    assert factors[0] == pytest.approx(FIRST_STEP)
    assert factors[1:] == pytest.approx(factors[1])
    assert 0.7 < factors[1] < 0.8
    assert step_shares(0.5, None) == pytest.approx([0.5**0.5, 0.5])  # too near for a first step of six tenths


def test_a_given_number_of_steps_is_kept() -> None:
    assert step_shares(0.25, 2) == pytest.approx([0.5, 0.25])
    assert step_shares(0.125, 3, dense=False) == pytest.approx([0.5, 0.25, 0.125])
