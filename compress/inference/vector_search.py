"""Exact search in bounded memory: for each query, the documents with the largest dot products."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from compress.core.errors import ModelError
from compress.data.rankings import DocumentRanking, ranked, score_order

QUERY_TILE = 256  # rows of a matrix product
CORPUS_TILE = 4096  # columns of a matrix product
ALIGNMENT = 16  # a tile of queries is padded to a multiple, so that every row goes through the same kernel


def nearest_documents(queries: np.ndarray, blocks: Iterable[np.ndarray], ranks: np.ndarray, count: int) -> list[DocumentRanking]:
    """Return the `count` best documents of each query by dot product (cosine, if the vectors have length one).

    Vectors are multiplied in tiles of a fixed size, so that the result does not depend on how the corpus is cut into blocks. The
    corpus is read once; the memory is that of one block, one tile of scores and the best documents so far.

    Args:
        queries: (queries, size) float32.
        blocks: the vectors of the corpus in order, (rows, size) each, with any number of rows.
        ranks: (documents,), from `id_ranks`: decides between equal scores, as in trec_eval.
        count: documents to return per query; all if the corpus has no more.

    Raises:
        ModelError: vectors of different sizes, or a number that is not finite.
        ValueError: the number of vectors differs from the number of ranks.
    """
    _check_finite(queries, "query", 0)
    tiles = [queries[start : start + QUERY_TILE] for start in range(0, len(queries), QUERY_TILE)]
    best = [_Best(np.ascontiguousarray(tile, dtype=np.float32), ranks, count) for tile in tiles]
    documents = 0
    for first, tile, filled in _tiles(blocks, queries.shape[1]):
        documents = first + filled
        if documents > len(ranks):
            break
        for of_queries in best:
            of_queries.add(first, tile, filled)
    if documents != len(ranks):
        raise ValueError(f"{documents} or more vectors of {len(ranks)} documents")
    return [ranking for of_queries in best for ranking in of_queries.rankings()]


def _tiles(blocks: Iterable[np.ndarray], size: int) -> Iterator[tuple[int, np.ndarray, int]]:
    """Yield the first document, the vectors, (CORPUS_TILE, size), and the number of documents of each tile; the last is padded."""
    tile = np.zeros((CORPUS_TILE, size), dtype=np.float32)
    first = filled = 0
    for block in blocks:
        if block.shape[1] != size:
            raise ModelError(
                f"the queries have vectors of {size} numbers, and the documents of {block.shape[1]}",
                "search with the model that encoded the corpus, or with a student of the same output size",
            )
        for start in range(0, len(block), CORPUS_TILE):
            rest = block[start : start + CORPUS_TILE]
            _check_finite(rest, "document", first + filled)
            while len(rest):
                taken = rest[: CORPUS_TILE - filled]
                tile[filled : filled + len(taken)] = taken
                filled, rest = filled + len(taken), rest[len(taken) :]
                if filled == CORPUS_TILE:
                    yield first, tile, filled
                    first, filled = first + filled, 0
    if filled:
        tile[filled:] = 0
        yield first, tile, filled


def _check_finite(vectors: np.ndarray, what: str, before: int) -> None:
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        number = before + int(np.argmin(finite)) + 1
        raise ModelError(f"the vector of {what} {number} has a number that is not finite", "is the model damaged?")


class _Best:
    """The best documents so far of one tile of queries."""

    def __init__(self, queries: np.ndarray, ranks: np.ndarray, count: int) -> None:
        self._rows = len(queries)
        self._queries = np.zeros((-(-self._rows // ALIGNMENT) * ALIGNMENT, queries.shape[1]), dtype=np.float32)
        self._queries[: self._rows] = queries
        self._ranks, self._count = ranks, count
        self._products = np.empty((len(self._queries), CORPUS_TILE), dtype=np.float32)
        self._lowest = np.full(self._rows, -np.inf, dtype=np.float32)  # lower scores are not among the best
        self._kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # rows, documents, scores
        self._size = 0

    def add(self, first: int, tile: np.ndarray, filled: int) -> None:
        """Add the documents of a tile; `first` is the position of its first document."""
        np.matmul(self._queries, tile.T, out=self._products)
        scores = self._products[: self._rows, :filled]
        candidates = scores >= self._lowest[:, None]
        if self._count < filled and np.count_nonzero(candidates) > 2 * self._count * self._rows:
            of_tile = np.partition(scores, filled - self._count, axis=1)[:, filled - self._count]
            self._lowest = np.maximum(self._lowest, of_tile)
            candidates = scores >= self._lowest[:, None]
        rows, columns = np.divmod(np.flatnonzero(candidates), filled)
        self._kept.append((rows.astype(np.uint16), first + columns, scores[rows, columns]))
        self._size += len(rows)
        if self._size > 4 * self._count * self._rows + CORPUS_TILE:
            self._compact()

    def _compact(self) -> None:
        """Drop documents that cannot be among the best of a query; ties with the last one are kept unless there are many."""
        documents, scores = self._by_row()
        for row, of_row in enumerate(scores):
            if len(of_row) <= self._count:
                continue
            self._lowest[row] = np.partition(of_row, len(of_row) - self._count)[len(of_row) - self._count]
            kept = np.flatnonzero(of_row >= self._lowest[row])
            if len(kept) > 2 * self._count:
                kept = score_order(documents[row], of_row, self._ranks)[: self._count]
            documents[row], scores[row] = documents[row][kept], of_row[kept]
        rows = np.repeat(np.arange(self._rows, dtype=np.uint16), [len(of_row) for of_row in scores])
        self._kept, self._size = [(rows, np.concatenate(documents), np.concatenate(scores))], len(rows)

    def _by_row(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return documents and scores of each query."""
        rows, documents, scores = (np.concatenate(parts) for parts in zip(*self._kept, strict=True))
        order = np.argsort(rows, kind="stable")  # of 16-bit numbers: a radix sort
        ends = np.cumsum(np.bincount(rows, minlength=self._rows))[:-1]
        return np.split(documents[order], ends), np.split(scores[order], ends)

    def rankings(self) -> list[DocumentRanking]:
        """Return the ranking of each query."""
        pairs = zip(*self._by_row(), strict=True)
        return [ranked(documents, scores, self._ranks).top(self._count) for documents, scores in pairs]
