"""Held-out validation rows: the same choice for ever."""

from __future__ import annotations

import numpy as np
import pytest

from compress.core.errors import DataError
from compress.data.splits import held_out_positions


def test_the_choice_is_pinned() -> None:
    """Scores of two versions compare only on the same rows."""
    kept, held_out = held_out_positions(30)
    assert held_out.tolist() == [2, 13, 28]
    assert sorted([*kept.tolist(), *held_out.tolist()]) == list(range(30))
    classes = np.array([0, 1, 1] * 20)
    assert held_out_positions(60, classes, 2)[1].tolist() == [26, 35, 36, 37, 45, 58]


def test_classes_keep_their_shares() -> None:
    classes = np.array([0] * 150 + [1] * 50)
    _, held_out = held_out_positions(200, classes, 2)
    assert np.bincount(classes[held_out]).tolist() == [15, 5]


@pytest.mark.parametrize("classes", [[0] * 49 + [1], [0, 1, 2, 3, 4, 5] * 2 + [0]])
def test_a_class_that_cannot_be_divided_leaves_the_choice_random(classes: list[int]) -> None:
    plain = held_out_positions(len(classes))[1]
    assert held_out_positions(len(classes), np.array(classes), 6)[1].tolist() == plain.tolist()


def test_too_few_rows() -> None:
    with pytest.raises(DataError, match="too few"):
        held_out_positions(9)
