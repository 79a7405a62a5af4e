"""Training pairs and candidate lists."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.data import streamed
from compress.data.collection import Collection
from compress.data.judgements import Judgements
from compress.data.ranking_examples import candidate_lists, cut_into_lists, query_document_texts, relevant_pairs
from compress.data.rankings import NOTHING, DocumentRanking
from compress.data.streamed import StreamedTexts


def judged(size: int, *grades: dict[int, int]) -> Judgements:
    corpus = Collection([str(number) for number in range(size)], [("text",)] * size, "corpus")
    documents = [np.array(list(of_query), dtype=np.int64) for of_query in grades]
    return Judgements(corpus, np.arange(len(grades)), documents, [np.array(list(of_query.values())) for of_query in grades])


def test_pairs_are_the_relevant_documents() -> None:
    pairs = relevant_pairs(judged(9, {3: 2, 4: 0, 5: 1}, {5: 1, 6: -1}))
    assert pairs.queries.tolist() == [0, 0, 1]
    assert pairs.documents.tolist() == [3, 5, 5]
    assert pairs.relevant(np.array([0, 2])).tolist() == [[True, True], [False, True]]
    assert len(pairs) == 3


def test_a_streamed_corpus_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "VIEWED", 1)
    reads = []

    def read() -> Iterator[tuple[str]]:
        reads.append(1)
        return iter([("a",), ("b",), ("c",)])

    corpus = Collection(["0", "1", "2"], StreamedTexts(read, np.arange(3)), "corpus")
    texts = query_document_texts([("q",), ("r",)], [np.array([2, 0]), np.array([1, 2])], corpus)
    assert texts == [("q", "c"), ("q", "a"), ("r", "b"), ("r", "c")]
    assert len(reads) == 1


def ranking(*documents: int) -> DocumentRanking:
    return DocumentRanking(np.array(documents, dtype=np.int64), -np.arange(len(documents), dtype=np.float32))


def test_lists_take_hard_negatives_before_random_ones() -> None:
    lists = candidate_lists(judged(100, {3: 2, 4: 0, 5: 1, 6: 1}), [ranking(5, 7, 3, 8)], 5, np.random.default_rng(0))
    assert lists.queries.tolist() == [0, 0]  # three relevant documents, two in a list
    first, second = lists.documents.tolist()
    assert set(first[2:]) == {4, 7, 8}
    assert {*first[:2], second[0]} == {3, 5, 6}
    assert {4, 7, 8} < set(second)
    assert lists.grades.tolist()[0][2:] == [0, 0, 0]
    assert lists.take(np.array([1])).documents.tolist() == [second]


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 14))
def test_lists_have_one_size_and_no_document_twice(seed: int, corpus: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    grades = [
        {int(rng.integers(corpus)): 1, **dict.fromkeys(rng.integers(0, corpus, 4).tolist(), int(rng.integers(-1, 2)))} for _ in range(3)
    ]
    for of_query in grades:
        of_query[min(of_query)] = 2  # one at least is relevant
    judgements = judged(corpus, *grades)
    lists = candidate_lists(judgements, [NOTHING, ranking(*rng.permutation(corpus)), NOTHING], size, rng)
    assert lists.documents.shape == lists.grades.shape == (len(lists), min(size, corpus))
    for query, documents, of_list in zip(lists.queries.tolist(), lists.documents.tolist(), lists.grades.tolist(), strict=True):
        assert len(set(documents)) == len(documents)
        assert of_list == [max(0, grades[query].get(document, 0)) for document in documents]
        assert max(of_list) > 0
    for query, of_query in enumerate(grades):
        seen = set(lists.documents[lists.queries == query].ravel().tolist())
        assert {document for document, grade in of_query.items() if grade > 0} <= seen


def test_lists_hold_every_candidate_of_a_query_once_and_are_filled_from_its_first() -> None:
    lists = cut_into_lists([5, 1, 0, 4], 4, np.random.default_rng(0))
    assert lists.shape == (3, 4)
    assert sorted(set(lists[:2].ravel().tolist())) == [0, 1, 2, 3, 4]  # the query with one candidate is left out
    assert lists[1, 1:].tolist() == lists[0, :3].tolist()
    assert sorted(lists[2].tolist()) == [6, 7, 8, 9]
    assert cut_into_lists([1], 4, np.random.default_rng(0)).shape == (0, 4)
