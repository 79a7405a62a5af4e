"""Relevance judgements of queries and documents, as BEIR and TREC write them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compress.core.errors import DataError, did_you_mean
from compress.data.cells import is_missing, label_text, shorten
from compress.data.collection import Collection
from compress.data.row_places import place_of_row
from compress.data.sources import Source

COLUMNS = ("query-id", "corpus-id", "score")
MAX_GRADE = 1_000  # trec_eval counts the documents of every grade up to the highest
HINT = "judgements have the columns " + ", ".join(COLUMNS)


@dataclass(frozen=True)
class Judgements:
    """The judged documents of some queries, each query with at least one relevant document: the labels of a retrieval task.

    `corpus` holds the documents; `queries` positions in the queries, (n,) int64, each once; `documents` and `grades` for each query
    the positions of its judged documents in the corpus and their grades, (m,) int64 each. A document is relevant if its grade is
    positive. `without_relevant` counts the queries that were left out because no judged document is relevant.
    """

    corpus: Collection
    queries: np.ndarray
    documents: Sequence[np.ndarray]
    grades: Sequence[np.ndarray]
    without_relevant: int = 0

    def __len__(self) -> int:
        return len(self.queries)

    def __getitem__(self, positions: Sequence[int] | np.ndarray) -> Judgements:
        """Return those of the queries at `positions`, in that order."""
        where = np.asarray(positions, dtype=int)
        return Judgements(self.corpus, self.queries[where], [self.documents[i] for i in where], [self.grades[i] for i in where])

    def grades_of(self, row: int, documents: np.ndarray) -> np.ndarray:
        """Return the grades of documents for the query in a row, (m,) float32: not negative, and 0 without a judgement."""
        judged = dict(zip(self.documents[row].tolist(), self.grades[row].tolist(), strict=True))
        return np.array([max(0, judged.get(document, 0)) for document in documents.tolist()], dtype=np.float32)


def part_of_corpus(judgements: Judgements, count: int) -> Judgements:
    """Return the same judgements of a corpus with about `count` documents: all that are judged, and others at equal distances.

    Rankings of it are easier, so that its scores compare with each other only.
    """
    corpus = judgements.corpus
    if len(corpus) <= count:
        return judgements
    judged = np.unique(np.concatenate(judgements.documents))
    others = np.setdiff1d(np.arange(len(corpus)), judged)
    spaced = np.linspace(0, len(others) - 1, min(len(others), max(0, count - len(judged)))).astype(np.int64)
    kept = np.union1d(judged, others[spaced])
    smaller = Collection([corpus.ids[position] for position in kept.tolist()], corpus.take(kept), corpus.where)
    return replace(judgements, corpus=smaller, documents=[np.searchsorted(kept, documents) for documents in judgements.documents])


def read_judgements(source: Source, queries: Collection, corpus: Collection) -> Judgements:
    """Read the columns `query-id`, `corpus-id` and `score` (a whole number).

    Raises:
        DataError: wrong columns, an id that the queries or the corpus lack, a grade that is no whole number, two grades of one
            pair, or no relevant document at all; the message has file and line.
    """
    names = source.column_names(COLUMNS)
    for column in COLUMNS:
        if column not in names:
            raise DataError(f"{source.where} has no column '{column}'{did_you_mean(column, names)}; it has: {shorten(names)}", HINT)
    query_ids, document_ids, grades = _read_rows(source)
    query_rows = _positions(query_ids, queries, COLUMNS[0], source)
    document_rows = _positions(document_ids, corpus, COLUMNS[1], source)
    judged = _distinct(query_rows, document_rows, grades, source)
    relevant = [query for query, of_query in judged.items() if max(of_query.values()) > 0]
    if not relevant:
        raise DataError(f"{source.where} judges no document as relevant", "a relevant document has a score of 1 or more")
    return Judgements(
        corpus,
        np.array(relevant, dtype=np.int64),
        [np.fromiter(judged[query].keys(), dtype=np.int64) for query in relevant],
        [np.fromiter(judged[query].values(), dtype=np.int64) for query in relevant],
        len(judged) - len(relevant),
    )


def _read_rows(source: Source) -> tuple[list[str], list[str], list[int]]:
    """Return the ids of query and document and the grade of each row."""
    shared: dict[str, str] = {}  # equal ids are one object
    query_ids: list[str] = []
    document_ids: list[str] = []
    grades: list[int] = []
    for batch in source.batches(COLUMNS):
        for cells in zip(*(batch[column] for column in COLUMNS), strict=True):
            for column, cell in zip(COLUMNS, cells, strict=True):
                if is_missing(cell):
                    raise DataError(f"{place_of_row(source, len(grades))} has no '{column}'", HINT)
            query, document = (shared.setdefault(text, text) for text in map(label_text, cells[:2]))
            grade = _grade(cells[2])
            if grade is None or abs(grade) > MAX_GRADE:
                raise DataError(
                    f"{place_of_row(source, len(grades))} has the score {cells[2]!r}, which is no whole number of at most {MAX_GRADE}", HINT
                )
            query_ids.append(query)
            document_ids.append(document)
            grades.append(grade)
    if not grades:
        raise DataError(f"{source.where} has no judgements", HINT)
    return query_ids, document_ids, grades


def _grade(cell: object) -> int | None:
    """Return a grade as an int, or None if it is no whole number."""
    try:
        number = float(cell)  # pyright: ignore[reportArgumentType]
        return int(number) if number == int(number) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _positions(ids: list[str], collection: Collection, column: str, source: Source) -> list[int]:
    """Return the positions of ids in a collection.

    Raises:
        DataError: it lacks one of them.
    """
    positions = collection.positions(ids)
    unknown = set(ids) - positions.keys()
    if unknown:
        row = next(row for row, name in enumerate(ids) if name in unknown)
        more = f" (nor {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise DataError(
            f"{place_of_row(source, row)} has the {column} {ids[row]!r}, which is not in {collection.where}{more}",
            "give the corpus and the queries that the judgements are of, or remove these judgements",
        )
    return [positions[name] for name in ids]


def _distinct(queries: list[int], documents: list[int], grades: list[int], source: Source) -> dict[int, dict[int, int]]:
    """Return the grade of each document by query.

    Raises:
        DataError: a pair has two grades.
    """
    judged: dict[int, dict[int, int]] = {}
    for row, (query, document, grade) in enumerate(zip(queries, documents, grades, strict=True)):
        if judged.setdefault(query, {}).setdefault(document, grade) != grade:
            raise DataError(
                f"{place_of_row(source, row)} judges a pair with {grade} that has {judged[query][document]} above", "keep one of the two"
            )
    return judged


def split_by_query(judgements: Judgements, ids: Sequence[str], shares: Mapping[str, float]) -> dict[str, Judgements]:
    """Divide judgements by query: no query is in two parts.

    A query's part depends on the hash of its id, so that the split is the same on every machine and whatever the order of the rows.

    Args:
        judgements: to divide.
        ids: of all queries.
        shares: of the queries in each part; they add up to 1.

    Raises:
        DataError: a part would be empty.
    """
    judged: list[int] = judgements.queries.tolist()
    digests = [hashlib.sha256(ids[query].encode("utf-8", "surrogatepass")).digest() for query in judged]
    order = sorted(range(len(judgements)), key=digests.__getitem__)
    ends = np.round(np.cumsum(list(shares.values())) * len(order)).astype(int).tolist()
    parts: dict[str, Judgements] = {}
    for name, start, end in zip(shares, [0, *ends[:-1]], ends, strict=True):
        if start == end:
            raise DataError(f"a share of {shares[name]:g} of {len(order)} judged queries is none for {name}", "give more judgements")
        parts[name] = judgements[sorted(order[start:end])]
    return parts
