"""The first embedder's document vectors, searched with the queries of others: may an index be kept when its model is replaced?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compress.data.rankings import DocumentRanking
from compress.inference.corpus_search import CorpusSearch, comparable


class OldIndex:
    """The document vectors of a model.

    Args:
        model: its name.
        search: of the corpus.
        documents: its vectors of the corpus, (documents, size).
        folder: of the model.
    """

    def __init__(self, model: str, search: CorpusSearch, documents: np.ndarray, folder: Path) -> None:
        self.model, self._search = model, search
        self._documents, self._folder = documents, folder

    def rankings(self, vectors: np.ndarray, folder: Path) -> list[DocumentRanking] | None:
        """Return the best documents of each query of another model; None if its vectors have another size.

        Args:
            vectors: of the other model: of the queries, then of the corpus, (queries + documents, size).
            folder: of the other model.
        """
        if vectors.shape[1] != self._documents.shape[1]:
            return None
        queries = len(vectors) - len(self._documents)
        query_vectors = np.concatenate(list(comparable(vectors[:queries], folder)))
        return self._search.nearest(query_vectors, comparable(self._documents, self._folder))
