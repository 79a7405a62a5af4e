"""Training examples of retrieval: pairs of a query and a relevant document, and lists of candidates with their grades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compress.data.judgements import Judgements
from compress.data.rankings import DocumentRanking


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
    """For each query as many candidates: `documents`, positions in the corpus, and `grades`, both (queries, candidates) int64.

    Grades are not negative; documents without a judgement have grade 0.
    """

    documents: np.ndarray
    grades: np.ndarray

    def __len__(self) -> int:
        return len(self.documents)


def candidate_lists(judgements: Judgements, rankings: Sequence[DocumentRanking], size: int, rng: np.random.Generator) -> CandidateLists:
    """Draw candidates of each query: up to half of them relevant, the rest not.

    Those that are not relevant come from the judged ones and from the ranking, without those judged relevant; if there are too few,
    random documents fill the list.

    Args:
        judgements: of the queries.
        rankings: of each query, by a retriever; hard negatives. Empty rankings are allowed.
        size: candidates per query; fewer if the corpus is smaller.
        rng: source of randomness.
    """
    size = min(size, len(judgements.corpus))
    documents, grades = (np.zeros((len(judgements), size), dtype=np.int64) for _ in range(2))
    for row, ranking in enumerate(rankings):
        judged = dict(zip(judgements.documents[row].tolist(), np.maximum(judgements.grades[row], 0).tolist(), strict=True))
        documents[row] = _draw(judged, ranking.documents, size, len(judgements.corpus), rng)
        grades[row] = [judged.get(document, 0) for document in documents[row].tolist()]
    return CandidateLists(documents, grades)


def _draw(judged: dict[int, int], ranked: np.ndarray, size: int, corpus: int, rng: np.random.Generator) -> list[int]:
    """Return `size` different documents, the relevant ones first."""
    relevant = [document for document, grade in judged.items() if grade]
    others = [document for document, grade in judged.items() if not grade]
    others += [document for document in ranked.tolist() if document not in judged]
    drawn: list[int] = rng.permutation(relevant)[: max(1, size // 2)].tolist()
    drawn += rng.permutation(np.array(others, dtype=np.int64))[: size - len(drawn)].tolist()
    taken = {*drawn, *judged}
    while len(drawn) < size and len(taken) < corpus:
        document = int(rng.integers(corpus))
        if document not in taken:
            taken.add(document)
            drawn.append(document)
    spare = [document for document in relevant if document not in drawn]  # a corpus of little but relevant documents
    return drawn + spare[: size - len(drawn)]
