"""Queries with their candidates: encode the pairs for a reranker, and rank the candidates by its scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.data.collection import Collection
from compress.data.encoded import Encoded
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.ranking_examples import query_document_texts
from compress.data.rankings import DocumentRanking, ranked
from compress.models.inputs import encode_for


class CandidateRanking:
    """Ranks the candidates of queries.

    Args:
        corpus: with the documents.
        candidates: of each query.
    """

    def __init__(self, corpus: Collection, candidates: Sequence[DocumentRanking]) -> None:
        self.corpus, self.candidates = corpus, candidates

    def encode(self, folder: Path, examples: Examples, input_spec: InputSpec) -> Encoded:
        """Tokenize each query with each of its candidates, in order."""
        texts = query_document_texts(examples.texts, [ranking.documents for ranking in self.candidates], self.corpus)
        return encode_for(folder, Examples(texts, np.zeros(len(texts), dtype=np.float32)), input_spec)

    def rankings(self, logits: np.ndarray, queries: int, folder: Path) -> list[DocumentRanking]:
        """Return the candidates of each query in the order of their scores.

        Args:
            logits: one per pair, (pairs, 1); an activation would not change their order.
            queries: their number.
            folder: of the reranker.
        """
        ends = np.cumsum([len(ranking) for ranking in self.candidates])[:-1]
        scores = np.split(logits.reshape(-1), ends)
        pairs = zip(self.candidates, scores, strict=True)
        return [ranked(ranking.documents, of_query, self.corpus.ranks) for ranking, of_query in pairs]
