"""Tokenized lists of inputs."""

from __future__ import annotations

import numpy as np

from compress.data.encoded import Encoded
from compress.data.encoded_lists import group_inputs


def test_a_batch_has_the_inputs_of_its_lists() -> None:
    ids = [np.arange(1, length + 1) for length in (2, 4, 1)]
    encoded = Encoded(ids, [np.zeros_like(row) for row in ids], np.zeros(3), 9)
    lists = group_inputs(encoded, np.array([[0, 2], [1, 2], [2, 2]]), np.array([[1, 0], [2, 0], [0, 0]]))
    assert len(lists) == 3
    assert lists.lengths.tolist() == [2, 4, 1]
    taken = lists.take(np.array([2, 0]))
    assert [ids.tolist() for ids in taken.input_ids] == [[1], [1], [1, 2], [1]]
    assert taken.labels.tolist() == [[0, 0], [1, 0]]
    batch = lists.batch([1, 0])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [1, 9, 9, 9], [1, 2, 9, 9], [1, 9, 9, 9]]
    assert batch["attention_mask"].sum(1).tolist() == [4, 1, 2, 1]
    assert lists.targets([1, 0]).tolist() == [[2, 0], [1, 0]]
    assert lists.items([1, 0]) == 2
