"""Run files in TREC's format."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import DataError
from compress.data.collection import Collection
from compress.data.rankings import DocumentRanking, ranked
from compress.data.runs import read_trec_run, write_trec_run

QUERIES = Collection(["q1", "q2"], [("a",), ("b",)], "queries.jsonl")
CORPUS = Collection(["d1", "d10", "d9", "d2"], [("a",)] * 4, "corpus.jsonl")
SCORES = st.lists(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=4, max_size=4)


def write(folder: Path, *lines: str) -> str:
    (folder / "a.run").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "a.run")


def test_scores_decide_and_then_ids_in_descending_order(tmp_path: Path) -> None:
    lines = ("q1 Q0 d1 1 0.5 tag", "q1 Q0 d10 2 0.5 tag", "", "q1\tQ0\td9\t3\t0.5\ttag", "q1 Q0 d2 4 1e0 tag")
    first, second = read_trec_run(write(tmp_path, *lines), QUERIES, CORPUS)
    assert [CORPUS.ids[document] for document in first.documents] == ["d2", "d9", "d10", "d1"]
    assert first.scores.tolist() == [1.0, 0.5, 0.5, 0.5]
    assert len(second) == 0
    assert len(first.top(2)) == 2


@given(SCORES, SCORES)
def test_what_is_written_is_read_again(first: list[float], second: list[float]) -> None:
    documents = np.arange(4)
    rankings = [ranked(documents, np.array(scores), CORPUS.ranks) for scores in (first, second)]
    with tempfile.TemporaryDirectory() as folder:
        write_trec_run(Path(folder) / "a.run", rankings, QUERIES, CORPUS, "compress")
        for before, after in zip(rankings, read_trec_run(f"{folder}/a.run", QUERIES, CORPUS), strict=True):
            np.testing.assert_array_equal(after.documents, before.documents)
            np.testing.assert_array_equal(after.scores, before.scores)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1 Q0 d1 1 0.5", r"line 2 of .*a\.run has 5 fields, and a run has 6"),
        ("q1 Q0 d1 1 high tag", r"line 2 of .*a\.run has the score 'high'"),
        ("q1 Q0 d1 1 nan tag", r"line 2 of .*a\.run has the score 'nan', which is no finite number"),
        ("q1 Q0 d1 1 1e39 tag", r"line 2 of .*a\.run has the score '1e39'"),
        ("q7 Q0 d1 1 1 tag", r"line 2 of .*a\.run has the query 'q7', which is not in queries\.jsonl"),
        ("q1 Q0 d7 1 1 tag", r"line 2 of .*a\.run has the document 'd7', which is not in corpus\.jsonl"),
        ("q1 Q0 d2 1 1 tag", r"line 2 of .*a\.run has the document 'd2' again"),
    ],
)
def test_what_is_no_run(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_trec_run(write(tmp_path, "q1 Q0 d2 1 0.5 tag", line), QUERIES, CORPUS)


def test_files_that_are_no_runs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.run has no lines"):
        read_trec_run(write(tmp_path), QUERIES, CORPUS)
    (tmp_path / "a.run").write_bytes(b"q1 Q0 d1 1 1 tag\nq1 Q0 d\xe9 1 1 tag\n")
    with pytest.raises(DataError, match=r"line 2 of .*a\.run is not UTF-8 text"):
        read_trec_run(str(tmp_path / "a.run"), QUERIES, CORPUS)
    with pytest.raises(DataError, match="there is no file"):
        read_trec_run(str(tmp_path / "b.run"), QUERIES, CORPUS)


def test_an_id_with_a_space_cannot_be_written(tmp_path: Path) -> None:
    spaced = Collection(["q 1"], [("a",)], "queries.jsonl")
    ranking = DocumentRanking(np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.float32))
    with pytest.raises(DataError, match="the id 'q 1' is empty or has a space in it"):
        write_trec_run(tmp_path / "a.run", [ranking], spaced, CORPUS, "compress")
    assert not (tmp_path / "a.run").exists()
