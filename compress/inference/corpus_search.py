"""Queries with their corpus: encode both for an embedder, and rank the documents by its vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from compress.data.collection import Collection
from compress.data.encoded import Encoded
from compress.data.examples import Examples
from compress.data.input_spec import DOCUMENT_PROMPTS, QUERY_PROMPTS, InputSpec
from compress.data.rankings import DocumentRanking
from compress.data.streamed import StreamedTexts, Texts
from compress.inference.vector_search import CORPUS_TILE, nearest_documents
from compress.models.config import read_config
from compress.models.inputs import encode_for
from compress.models.sentence_head import sentence_head

RETURNED = 1000  # documents per query, as BEIR returns


class CorpusSearch:
    """Ranks the documents of a corpus for queries."""

    def __init__(self, corpus: Collection) -> None:
        self.corpus = corpus

    def encode(self, folder: Path, examples: Examples, input_spec: InputSpec) -> Encoded:
        """Tokenize the queries, then the corpus, each with its prompt.

        Raises:
            ModelError: the embedder's vectors are compared in another way than by cosine or dot product.
        """
        head = sentence_head(read_config(folder))
        if head:
            head.check_similarity()
        prompts = (head.prompt_for(*QUERY_PROMPTS), head.prompt_for(*DOCUMENT_PROMPTS)) if head else ("", "")

        def read() -> Iterator[Texts]:
            for prompt, texts in zip(prompts, (examples.texts, self.corpus.texts), strict=True):
                for (text,) in texts:
                    yield (prompt + text,)

        count = len(examples) + len(self.corpus)
        streamed = isinstance(self.corpus.texts, StreamedTexts)
        texts = StreamedTexts(read, np.arange(count)) if streamed else list(read())
        return encode_for(folder, Examples(texts, np.zeros(count, dtype=np.float32)), input_spec, prompted=True)

    def rankings(self, vectors: np.ndarray, queries: int, folder: Path) -> list[DocumentRanking]:
        """Return the best documents of each query.

        Args:
            vectors: of the queries, then of the corpus, (queries + documents, size).
            queries: their number.
            folder: of the embedder, which says how vectors are compared: by their cosine, unless it names the dot product.
        """
        return self.nearest(np.concatenate(list(comparable(vectors[:queries], folder))), comparable(vectors[queries:], folder))

    def nearest(self, queries: np.ndarray, documents: Iterable[np.ndarray]) -> list[DocumentRanking]:
        """Return the best documents of each query by dot product, from the vectors of all queries and, in blocks, of all documents."""
        return nearest_documents(queries, documents, self.corpus.ranks, RETURNED)


def comparable(vectors: np.ndarray, folder: Path) -> Iterator[np.ndarray]:
    """Yield the vectors of an embedder, (n, size), in blocks whose dot products compare them as its folder says; never a copy of all."""
    head = sentence_head(read_config(folder))
    scales = head is None or (head.compares_by_cosine and not head.normalized)
    for start in range(0, max(1, len(vectors)), CORPUS_TILE):
        block = vectors[start : start + CORPUS_TILE]
        yield block / np.maximum(np.linalg.norm(block, axis=1, keepdims=True), np.finfo(np.float32).tiny) if scales else block
