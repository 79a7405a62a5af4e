"""Relevance judgements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.core.errors import DataError
from compress.data.collection import Collection, read_collection
from compress.data.judgements import Judgements, part_of_corpus, read_judgements, split_by_query
from compress.data.sources import FileSource
from tests.unit.data.retrieval_files import GRADES, write_beir, write_judgements


def read(folder: Path) -> Judgements:
    queries, corpus = (read_collection(FileSource((folder / f"{name}.jsonl",))) for name in ("queries", "corpus"))
    return read_judgements(FileSource((folder / "qrels" / "test.tsv",)), queries, corpus)


def test_queries_without_a_relevant_document_are_counted_and_left_out(tmp_path: Path) -> None:
    judgements = read(write_beir(tmp_path))
    assert judgements.queries.tolist() == [0, 1]
    assert [documents.tolist() for documents in judgements.documents] == [[0, 1], [1, 2]]
    assert [grades.tolist() for grades in judgements.grades] == [[2, 0], [1, 1]]
    assert judgements.without_relevant == 1
    assert judgements.corpus.ids == ["d1", "d2", "d10"]
    assert judgements[[1]].documents[0].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("q1", "d1", 1), ("q1", "d7", 1), ("q2", "d8", 1)],
            r"line 3 of .*test\.tsv has the corpus-id 'd7', which is not in .*corpus\.jsonl \(nor 1 more\)",
        ),
        ([("q9", "d1", 1)], r"line 2 of .*test\.tsv has the query-id 'q9', which is not in .*queries\.jsonl"),
        ([("q1", "d1", 0)], r"test\.tsv judges no document as relevant"),
        ([("q1", "d1", 1), ("q1", "d1", 2)], r"line 3 of .*test\.tsv judges a pair with 2 that has 1 above"),
        ([("q1", "d1", "good")], r"line 2 of .*test\.tsv has the score 'good', which is no whole number"),
        ([("q1", "d1", 0.5)], r"line 2 of .*test\.tsv has the score '0\.5', which is no whole number"),
        ([("q1", "d1", 10**9)], r"line 2 of .*test\.tsv has the score '1000000000'"),
        ([], r"test\.tsv has no judgements"),
    ],
)  # fmt: skip
def test_what_are_no_judgements(tmp_path: Path, rows: list[tuple[str, str, int]], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write_beir(tmp_path, test=rows))
    assert caught.value.hint


def test_repeated_judgements_and_negative_grades(tmp_path: Path) -> None:
    judgements = read(write_beir(tmp_path, test=[("q1", "d1", 1), ("q1", "d1", 1), ("q1", "d2", -1)]))
    assert judgements.documents[0].tolist() == [0, 1]
    assert judgements.grades[0].tolist() == [1, -1]


def test_wrong_columns(tmp_path: Path) -> None:
    write_beir(tmp_path)
    (tmp_path / "qrels" / "test.tsv").write_text("query_id\tcorpus-id\tscore\nq1\td1\t1\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"has no column 'query-id' \(did you mean 'query_id'\?\); it has: query_id, corpus-id, score"):
        read(tmp_path)
    write_judgements(tmp_path / "qrels" / "test.tsv", [("q1", "d1", "x\ty")])  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match=r"line 2 of .*test\.tsv has 4 fields, and the header has 3"):
        read(tmp_path)


def many(count: int) -> tuple[Judgements, list[str]]:
    ids = [f"q{number}" for number in range(count)]
    corpus = Collection(["d"], [("text",)], "corpus")
    one = [np.zeros(1, dtype=np.int64)] * count
    return Judgements(corpus, np.arange(count), one, [np.ones(1, dtype=np.int64)] * count), ids


def test_a_split_by_query_depends_on_the_ids_alone() -> None:
    judgements, ids = many(50)
    parts = split_by_query(judgements, ids, {"train": 0.6, "validation": 0.2, "test": 0.2})
    assert [len(part) for part in parts.values()] == [30, 10, 10]
    assert sorted(np.concatenate([part.queries for part in parts.values()])) == list(range(50))
    order = np.random.default_rng(0).permutation(50)
    again = split_by_query(judgements[order], ids, {"train": 0.6, "validation": 0.2, "test": 0.2})
    assert all(set(parts[name].queries) == set(again[name].queries) for name in parts)


def test_a_part_without_queries_is_refused() -> None:
    judgements, ids = many(3)
    with pytest.raises(DataError, match=r"a share of 0\.1 of 3 judged queries is none for validation"):
        split_by_query(judgements, ids, {"train": 0.9, "validation": 0.1})


def test_grades_are_those_of_the_file(tmp_path: Path) -> None:
    assert sum(len(documents) for documents in read(write_beir(tmp_path)).documents) == len(GRADES) - 1


def test_a_part_of_a_corpus_keeps_what_is_judged() -> None:
    corpus = Collection([f"d{number}" for number in range(100)], [(f"text {number}",) for number in range(100)], "corpus")
    grades = [np.array([1, 0]), np.array([2])]
    judgements = Judgements(corpus, np.array([0, 1]), [np.array([90, 3]), np.array([41])], grades)
    assert part_of_corpus(judgements, 100) is judgements
    part = part_of_corpus(judgements, 10)
    assert len(part.corpus) == 10
    assert [[part.corpus.ids[i] for i in of_query] for of_query in part.documents] == [["d90", "d3"], ["d41"]]
    assert part.corpus.texts[int(part.documents[1][0])] == ("text 41",)
    assert part.grades is grades
    assert len(part_of_corpus(judgements, 2).corpus) == 3
