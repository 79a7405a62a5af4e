"""Run files in the format of TREC: `query Q0 document rank score tag`, the candidates that a system returned for each query."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.core.errors import DataError
from compress.core.files import atomic_file
from compress.data.collection import Collection
from compress.data.rankings import NOTHING, DocumentRanking, ranked
from compress.data.tables import existing_file
from compress.data.text_files import lines_of, not_text

FIELDS = 6
FORM = "each line is 'QUERY Q0 DOCUMENT RANK SCORE TAG'"


def read_trec_run(path: str, queries: Collection, corpus: Collection) -> list[DocumentRanking]:
    """Read the ranking of each query; one without a line has an empty ranking.

    As in trec_eval the scores decide, not the ranks, and of equal scores the document id.

    Raises:
        DataError: no such file, a malformed line, an unknown query or document, a document twice; the message has file and line.
    """
    file = existing_file(path)
    query_positions, document_positions = ({name: i for i, name in enumerate(part.ids)} for part in (queries, corpus))
    documents: dict[int, array[int]] = defaultdict(lambda: array("q"))
    scores: dict[int, array[float]] = defaultdict(lambda: array("f"))
    lines: dict[int, array[int]] = defaultdict(lambda: array("q"))
    try:
        for number, line in enumerate(lines_of(file), start=1):
            if not line.strip():
                continue
            query_id, document_id, score = _fields(line, number, file)
            query = _known(query_id, query_positions, "query", queries, number, file)
            documents[query].append(_known(document_id, document_positions, "document", corpus, number, file))
            scores[query].append(score)
            lines[query].append(number)
    except UnicodeDecodeError as error:
        raise not_text(file) from error
    if not documents:
        raise DataError(f"{file} has no lines", FORM)
    for query, of_query in documents.items():
        _refuse_repeated(of_query, lines[query], corpus, file)
    return [
        ranked(np.array(documents[query]), np.array(scores[query]), corpus.ranks) if query in documents else NOTHING
        for query in range(len(queries))
    ]


def _fields(line: str, number: int, file: Path) -> tuple[str, str, float]:
    """Return query, document and score of a line."""
    fields = line.split()
    if len(fields) != FIELDS:
        raise DataError(f"line {number} of {file} has {len(fields)} fields, and a run has {FIELDS}", FORM)
    try:
        score = float(fields[4])
    except ValueError:
        score = math.nan
    if not abs(score) < float(np.finfo(np.float32).max):
        raise DataError(f"line {number} of {file} has the score {fields[4]!r}, which is no finite number", FORM)
    return fields[0], fields[2], score


def _known(name: str, positions: dict[str, int], what: str, collection: Collection, number: int, file: Path) -> int:
    position = positions.get(name)
    if position is None:
        where = f"line {number} of {file}"
        raise DataError(f"{where} has the {what} {name!r}, which is not in {collection.where}", "give the data that the run was made with")
    return position


def _refuse_repeated(documents: array[int], lines: array[int], corpus: Collection, file: Path) -> None:
    if len(set(documents)) == len(documents):
        return
    seen: set[int] = set()
    for document, line in zip(documents, lines, strict=True):
        if document in seen:
            raise DataError(f"line {line} of {file} has the document {corpus.ids[document]!r} again for its query", "keep one of the lines")
        seen.add(document)


def write_trec_run(path: Path, rankings: Sequence[DocumentRanking], queries: Collection, corpus: Collection, tag: str) -> None:
    """Write the ranking of each query; `read_trec_run` returns the same rankings.

    Args:
        path: of the file; it is written atomically.
        rankings: one per query, best document first.
        queries: names the queries.
        corpus: names the documents.
        tag: the name of the system, without spaces.

    Raises:
        DataError: an id has a space in it, which the format cannot hold.
    """
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for query_id, ranking in zip(queries.ids, rankings, strict=True):
            for rank, (document, score) in enumerate(zip(ranking.documents.tolist(), ranking.scores, strict=True), start=1):
                document_id = corpus.ids[document]
                for name in (query_id, document_id):
                    if len(name.split()) != 1:
                        raise DataError(f"the id {name!r} is empty or has a space in it, and a run file cannot hold it", "use other ids")
                stream.write(f"{query_id} Q0 {document_id} {rank} {score!s} {tag}\n")
