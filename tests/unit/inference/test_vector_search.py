"""Exact search in tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress.core.errors import ModelError
from compress.data.rankings import DocumentRanking, ranked
from compress.inference import vector_search
from compress.inference.vector_search import nearest_documents


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_search, "CORPUS_TILE", 64)
    monkeypatch.setattr(vector_search, "QUERY_TILE", 16)


def same(first: list[DocumentRanking], second: list[DocumentRanking]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.documents, other.documents)
        np.testing.assert_array_equal(one.scores, other.scores)


def cut(vectors: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Cut vectors into blocks of these sizes, the last one with the rest."""
    return np.split(vectors, np.minimum(np.cumsum(sizes), len(vectors)))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 40), st.integers(1, 80), st.lists(st.integers(0, 90), max_size=4))
def test_the_best_documents_with_ties(seed: int, documents: int, queries: int, count: int, sizes: list[int]) -> None:
    """Vectors of small integers have exact products, and many are equal: the order is that of all documents, sorted."""
    rng = np.random.default_rng(seed)
    corpus, asked = (rng.integers(-1, 2, (rows, 3)).astype(np.float32) for rows in (documents, queries))
    ranks = rng.permutation(documents)
    everything = [ranked(np.arange(documents), corpus @ vector, ranks).top(count) for vector in asked]
    same(nearest_documents(asked, cut(corpus, sizes), ranks, count), everything)


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 150), max_size=5))
def test_blocks_do_not_change_a_bit(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    corpus, asked = (rng.normal(size=(rows, 24)).astype(np.float32) for rows in (300, 21))
    ranks = np.arange(300)
    found = nearest_documents(asked, [corpus], ranks, 10)
    same(nearest_documents(asked, cut(corpus, sizes), ranks, 10), found)
    exact = asked.astype(np.float64) @ corpus.T.astype(np.float64)
    for scores, ranking in zip(exact, found, strict=True):
        np.testing.assert_allclose(ranking.scores, np.sort(scores)[::-1][:10], rtol=1e-5, atol=1e-5)


def test_half_precision_and_no_queries() -> None:
    corpus = np.eye(4, dtype=np.float16)
    assert [ranking.documents.tolist() for ranking in nearest_documents(corpus, [corpus], np.arange(4), 2)] == [
        [0, 3],
        [1, 3],
        [2, 3],
        [3, 2],
    ]
    assert nearest_documents(corpus[:0], [corpus], np.arange(4), 2) == []


def test_vectors_that_do_not_fit() -> None:
    vectors, ranks = np.ones((2, 4), dtype=np.float32), np.arange(2)
    with pytest.raises(ModelError, match="the queries have vectors of 4 numbers, and the documents of 3"):
        nearest_documents(vectors, [vectors[:, :3]], ranks, 1)
    broken = vectors.copy()
    broken[1, 2] = np.nan
    with pytest.raises(ModelError, match="the vector of document 4 has a number that is not finite"):
        nearest_documents(vectors, [vectors, broken], np.arange(4), 1)
    with pytest.raises(ModelError, match="the vector of query 2 has"):
        nearest_documents(broken, [vectors], ranks, 1)
    for wrong in (np.arange(1), np.arange(3)):
        with pytest.raises(ValueError, match="vectors of"):
            nearest_documents(vectors, [vectors], wrong, 1)
