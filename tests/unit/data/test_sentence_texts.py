"""The single texts of examples, and what vectors say about them."""

from __future__ import annotations

import numpy as np
import pytest

from compress.core.errors import DataError
from compress.data.examples import Examples
from compress.data.sentence_texts import cosines, decode_vectors, single_texts
from compress.data.streamed import StreamedTexts


def test_pairs_become_single_texts_in_turn() -> None:
    pairs = Examples([("a", "b"), ("c", "d")], np.array([1.0, 2.0]))
    single = single_texts(pairs, ("query: ", "query: "))
    assert single.texts == [("query: a",), ("query: b",), ("query: c",), ("query: d",)]
    assert single.labels.tolist() == [0, 0, 0, 0]


def test_streamed_texts_stay_streamed() -> None:
    for rows, expected in (([("a",), ("b",)], ["q a", "q b"]), ([("a", "b"), ("c", "d")], ["q a", "p b", "q c", "p d"])):
        streamed = Examples(StreamedTexts(lambda rows=rows: iter(rows), np.arange(2)), np.zeros(2))
        single = single_texts(streamed, ("q ", "p "))
        assert isinstance(single.texts, StreamedTexts)
        assert list(single.texts) == [(text,) for text in expected]
        assert len(single.labels) == len(expected)


def test_vectors_of_pairs_give_cosines() -> None:
    vectors = np.array([[1, 0], [2, 0], [1, 0], [0, 3]], dtype=np.float32)
    assert decode_vectors(vectors, Examples([("a", "b"), ("c", "d")], np.zeros(2))).tolist() == [1, 0]
    assert decode_vectors(vectors, Examples([("a",)] * 4, np.zeros(4))) is vectors


def test_cosines() -> None:
    first = np.array([[3, 4], [1, 0], [0, 0]], dtype=np.float32)
    assert cosines(first, np.array([[4, 3], [-2, 0], [1, 1]], dtype=np.float32)) == pytest.approx([0.96, -1, 0])
    with pytest.raises(DataError, match="vectors of 2 and of 3 dimensions cannot be compared"):
        cosines(first, np.zeros((3, 3)))
