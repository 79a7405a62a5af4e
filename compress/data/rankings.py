"""Rankings of documents in the order of trec_eval: score descending, then document id descending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class DocumentRanking:
    """The documents that a system returned for one query, best first.

    `documents` holds positions in the corpus, (m,) int64, each once; `scores` their scores, (m,) float32, descending. Scores have
    single precision because trec_eval reads them so: two that differ only beyond it are tied there.
    """

    documents: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.documents)

    def top(self, count: int) -> DocumentRanking:
        """Return the first `count` documents."""
        return DocumentRanking(self.documents[:count], self.scores[:count])


NOTHING = DocumentRanking(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))


def id_ranks(ids: Sequence[str]) -> np.ndarray:
    """Return the place of each id in ascending order of code points, (n,) int64: of equal scores the highest comes first.

    >>> id_ranks(["b", "a", "10", "9"]).tolist()
    [3, 2, 0, 1]
    """
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
    return ranks


def score_order(documents: np.ndarray, scores: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """Return the places of scored documents, best first, (m,) int64; arguments as those of `ranked`."""
    return np.lexsort((-ranks[documents], -scores))


def ranked(documents: np.ndarray, scores: np.ndarray, ranks: np.ndarray) -> DocumentRanking:
    """Return the ranking of scored documents.

    Args:
        documents: (m,) positions in the corpus, in any order, each once.
        scores: (m,) finite.
        ranks: of every document of the corpus, from `id_ranks`.
    """
    scores = np.asarray(scores, dtype=np.float32)
    order = score_order(documents, scores, ranks)
    return DocumentRanking(np.asarray(documents, dtype=np.int64)[order], scores[order])
