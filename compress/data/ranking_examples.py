"""Training examples of retrieval: pairs of a query and a relevant document, and lists of candidates with their grades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.data.collection import Collection
from compress.data.judgements import Judgements
from compress.data.rankings import DocumentRanking
from compress.data.streamed import Texts


@dataclass(frozen=True)
class RelevantPairs:
    """Pairs of a query and a document that is relevant to it.

    `queries` holds rows of `judgements`, (n,) int64, and `documents` positions in the corpus, (n,) int64.
    """

    judgements: Judgements
    queries: np.ndarray
    documents: np.ndarray

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, positions: np.ndarray) -> RelevantPairs:
        """Return the pairs at `positions`."""
        return RelevantPairs(self.judgements, self.queries[positions], self.documents[positions])

    def relevant(self, positions: np.ndarray) -> np.ndarray:
        """Return whether the document of pair j is relevant to the query of pair i, (batch, batch) bool, for the pairs at `positions`.

        Such a document is no negative of that query, although it is in the batch.
        """
        documents = self.documents[positions]
        rows = []
        for query in self.queries[positions].tolist():
            relevant = self.judgements.documents[query][self.judgements.grades[query] > 0]
            rows.append(np.isin(documents, relevant))
        return np.array(rows, dtype=bool).reshape(len(documents), len(documents))


def relevant_pairs(judgements: Judgements) -> RelevantPairs:
    """Return a pair for each relevant document of each query."""
    relevant = [documents[grades > 0] for documents, grades in zip(judgements.documents, judgements.grades, strict=True)]
    queries = np.repeat(np.arange(len(judgements)), [len(documents) for documents in relevant])
    return RelevantPairs(judgements, queries, np.concatenate(relevant))


@dataclass(frozen=True)
class CandidateLists:
    """Lists of candidates, all of one size, several of one query if it has many relevant documents.

    `queries` holds rows of the judgements, (lists,) int64; `documents` positions in the corpus and `grades` those of the judgements,
    (lists, candidates) int64 each. Grades are not negative, and 0 without a judgement.
    """

    queries: np.ndarray
    documents: np.ndarray
    grades: np.ndarray

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, positions: np.ndarray) -> CandidateLists:
        """Return the lists at `positions`."""
        return CandidateLists(self.queries[positions], self.documents[positions], self.grades[positions])


def query_document_texts(queries: Sequence[Texts], documents: Sequence[np.ndarray], corpus: Collection) -> list[Texts]:
    """Return the two texts of each query with each of its documents, in order.

    Args:
        queries: one text each.
        documents: positions in the corpus, for each query.
        corpus: with the documents; it is read once, and those that occur are kept in memory.
    """
    distinct, places = np.unique(np.concatenate(documents), return_inverse=True)
    passages, rows = list(corpus.take(distinct)), np.repeat(np.arange(len(documents)), [len(of_query) for of_query in documents])
    return [(queries[row][0], passages[place][0]) for row, place in zip(rows.tolist(), places.tolist(), strict=True)]


def candidate_lists(judgements: Judgements, rankings: Sequence[DocumentRanking], size: int, rng: np.random.Generator) -> CandidateLists:
    """Draw lists of candidates: each relevant document is in one list, up to half of a list is relevant, the rest is not.

    Those that are not relevant come from the judged ones and from the ranking, without those judged relevant; if there are too few,
    random documents fill the list.

    Args:
        judgements: of the queries.
        rankings: of each query, by a retriever; hard negatives. Empty rankings are allowed.
        size: candidates in a list; fewer if the corpus is smaller.
        rng: source of randomness.
    """
    size = min(size, len(judgements.corpus))
    queries: list[int] = []
    documents: list[list[int]] = []
    grades: list[list[int]] = []
    for row, ranking in enumerate(rankings):
        judged = dict(zip(judgements.documents[row].tolist(), np.maximum(judgements.grades[row], 0).tolist(), strict=True))
        relevant = rng.permutation([document for document, grade in judged.items() if grade]).tolist()
        per_list = max(1, size // 2)
        for start in range(0, len(relevant), per_list):
            drawn = _fill(relevant[start : start + per_list], judged, ranking.documents, size, len(judgements.corpus), rng)
            queries.append(row)
            documents.append(drawn)
            grades.append([judged.get(document, 0) for document in drawn])
    return CandidateLists(np.array(queries), np.array(documents, dtype=np.int64), np.array(grades, dtype=np.int64))


def _fill(drawn: list[int], judged: dict[int, int], ranked: np.ndarray, size: int, corpus: int, rng: np.random.Generator) -> list[int]:
    """Return `size` different documents, those of `drawn` first."""
    others = [document for document, grade in judged.items() if not grade]
    others += [document for document in ranked.tolist() if document not in judged]
    drawn = drawn + rng.permutation(np.array(others, dtype=np.int64))[: size - len(drawn)].tolist()
    taken = {*drawn, *judged}
    while len(drawn) < size and len(taken) < corpus:
        document = int(rng.integers(corpus))
        if document not in taken:
            taken.add(document)
            drawn.append(document)
    spare = [document for document, grade in judged.items() if grade and document not in drawn]  # a corpus of little but relevant ones
    return drawn + spare[: size - len(drawn)]


def cut_into_lists(counts: Sequence[int], size: int, rng: np.random.Generator) -> np.ndarray:
    """Cut the candidates of each query into lists in random order, without looking at grades; the last list is filled from the first.

    Args:
        counts: the number of candidates of each query; queries with fewer than two are left out.
        size: candidates in a list.
        rng: source of randomness.

    Returns:
        (lists, size) int64: positions among the candidates of all queries, in the order of the queries.
    """
    lists = []
    for start, count in zip(np.cumsum([0, *counts[:-1]]), counts, strict=True):
        if count > 1:
            order = start + rng.permutation(count)
            lists.append(np.resize(order, (-(-count // size), size)))
    return np.concatenate(lists) if lists else np.zeros((0, size), dtype=np.int64)
