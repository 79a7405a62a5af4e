"""The queries of one embedder on the document vectors of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.benchmark.accuracy import index_document
from compress.benchmark.old_index import OldIndex
from compress.data.collection import Collection
from compress.inference.corpus_search import CorpusSearch
from tests import tiny

DOCUMENTS = np.array([[1, 0], [0, 2], [3, 3]], dtype=np.float32)  # of the first model, which compares by cosine
QUERIES = np.array([[0.1, 0], [0, 9]], dtype=np.float32)  # of the second one
OWN = np.array([[0, 1], [1, 0], [1, 1]], dtype=np.float32)  # documents of the second one: not to be searched
GOOD, WORSE, BAD = (np.full((50, 1), value) for value in (0.8, 0.795, 0.4))


@pytest.fixture
def old_index(tmp_path: Path) -> OldIndex:
    search = CorpusSearch(Collection(["a", "b", "c"], [("x",), ("y",), ("z",)], "corpus"))
    return OldIndex("teacher", search, DOCUMENTS, tiny.write_embedder(tmp_path / "first", normalize=False))


def test_the_second_models_queries_search_the_first_ones_documents(old_index: OldIndex, tmp_path: Path) -> None:
    second = tiny.write_embedder(tmp_path / "second", normalize=False)
    found = old_index.rankings(np.concatenate([QUERIES, OWN]), second)
    assert found is not None
    assert [ranking.documents.tolist() for ranking in found] == [[0, 2, 1], [1, 2, 0]]


def test_vectors_of_another_size_search_nothing(old_index: OldIndex, tmp_path: Path) -> None:
    assert old_index.rankings(np.ones((5, 3), dtype=np.float32), tmp_path) is None
    assert index_document(["ndcg@10"], "teacher", None, [GOOD], [GOOD]) == {"of": "teacher", "valid": False}


@pytest.mark.parametrize(("found", "own", "valid"), [(GOOD, GOOD, True), (WORSE, GOOD, True), (BAD, GOOD, False), (BAD, BAD, True)])
def test_an_index_is_valid_if_new_document_vectors_would_not_be_better(
    found: np.ndarray, own: np.ndarray, valid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.benchmark.statistics.RESAMPLES", 100)
    document = index_document(["ndcg@10"], "teacher", [found], [GOOD], [own])
    assert document["valid"] is valid
    assert "vs_first" in document
    assert document["vs_first"]["delta"] == pytest.approx(float(found[0, 0] - GOOD[0, 0]))
