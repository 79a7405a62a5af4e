"""Examples: texts and labels stay together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compress.data.examples import Examples, overlap


@given(st.lists(st.integers(0, 9), max_size=10))
def test_taking_examples_keeps_texts_and_labels_together(positions: list[int]) -> None:
    examples = Examples([(f"text {number}",) for number in range(10)], np.arange(10) * 10)
    taken = examples.take(positions)
    assert taken.texts == [(f"text {number}",) for number in positions]
    assert taken.labels.tolist() == [10 * number for number in positions]
    assert len(taken) == len(positions)


def test_overlap_counts_equal_texts() -> None:
    first = Examples([("a", "b"), ("c", "d")], np.zeros(2, dtype=int))
    second = Examples([("a", "b"), ("b", "a"), ("a", "b"), ("e", "f")], np.zeros(4, dtype=int))
    assert overlap(first, second) == 2
