"""Default learning rates, and their course over a training."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.training.learning_rate import RECURRENT_LR, default_lr, warmup_linear_decay
from tests import tiny


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [
        (0.0, [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (0.2, [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        (0.5, [0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2]),
    ],
)
def test_schedule_by_hand(warmup: float, expected: list[float]) -> None:
    assert [warmup_linear_decay(step, 10, warmup) for step in range(10)] == pytest.approx(expected)


@given(st.integers(1, 400), st.floats(0, 0.99))
def test_schedule_rises_then_falls_within_zero_and_one(total: int, warmup: float) -> None:
    shares = [warmup_linear_decay(step, total, warmup) for step in range(total)]
    assert all(0 < share <= 1 for share in shares)
    assert max(shares) == 1
    peak = shares.index(1)
    assert all(a < b for a, b in itertools.pairwise(shares[: peak + 1]))
    assert all(a >= b for a, b in itertools.pairwise(shares[peak:]))
    assert peak + 1 == max(1, math.ceil(total * warmup))


def test_the_default_depends_on_width_labels_and_kind() -> None:
    assert default_lr(tiny.make_model()) == 1e-4
    assert default_lr(tiny.make_model("distilbert")) == 1e-4
    wide = tiny.make_model()
    wide.config.hidden_size = 768
    assert default_lr(wide) == 3e-5
    wide.config.num_labels = 21
    assert default_lr(wide) == pytest.approx(9e-5)
    assert default_lr(tiny.make_bilstm()) == RECURRENT_LR
