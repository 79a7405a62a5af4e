"""Samples of examples."""

from __future__ import annotations

import numpy as np

from compress.data.examples import Examples

EXAMPLES = Examples([(str(number),) for number in range(50)], np.arange(50))


def test_a_sample_keeps_the_order_and_depends_on_the_seed() -> None:
    sample = EXAMPLES.sample(10, 1)
    assert len(sample) == len(set(sample.texts)) == 10
    assert sample.labels.tolist() == sorted(sample.labels.tolist())
    assert [int(text) for (text,) in sample.texts] == sample.labels.tolist()
    assert EXAMPLES.sample(10, 1).texts == sample.texts
    assert EXAMPLES.sample(10, 2).texts != sample.texts


def test_no_more_than_there_are() -> None:
    assert EXAMPLES.sample(50, 1) is EXAMPLES
    assert EXAMPLES.sample(None, 1) is EXAMPLES
