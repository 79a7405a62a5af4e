"""A retrieval data set and its splits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compress.core import console
from compress.core.errors import DataError
from compress.data.candidate_source import RunFile
from compress.data.retrieval import Retrieval
from tests.unit.data.retrieval_files import write_beir, write_lines

SHARES = (0.6, 0.2, 0.2)


def large(folder: Path, *splits: str) -> Path:
    """Twenty queries with a relevant document each, in every split."""
    grades = [(f"q{number}", "d1", 1) for number in range(20)]
    write_beir(folder, **dict.fromkeys(splits, grades))
    write_lines(folder / "queries.jsonl", [{"_id": f"q{number}", "text": f"query {number}"} for number in range(20)])
    return folder


def test_examples_are_the_judged_queries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console.configure()
    data = Retrieval(str(write_beir(tmp_path)))
    examples = data.examples("test")
    assert data.available == ["test"]
    assert list(examples.texts) == [("what lifts?",), ("what is hot?",)]
    assert examples.take([1]).labels.documents[0].tolist() == [1, 2]
    assert "1 of 3 judged queries of " in capsys.readouterr().err


def test_validation_queries_are_held_out_of_train(tmp_path: Path) -> None:
    data = Retrieval(str(large(tmp_path, "train", "test")))
    assert data.available == ["train", "validation", "test"]
    train, validation = data.judgements("train"), data.judgements("validation")
    assert [len(train), len(validation), len(data.judgements("test"))] == [18, 2, 20]
    assert not set(train.queries) & set(validation.queries)


def test_shares_divide_the_only_split(tmp_path: Path) -> None:
    data = Retrieval(str(large(tmp_path, "test")), SHARES)
    assert [len(data.judgements(split)) for split in data.available] == [12, 4, 4]
    assert data.fingerprint != Retrieval(str(tmp_path)).fingerprint
    assert data.fingerprint == Retrieval(str(large(tmp_path / "copy", "test")), SHARES).fingerprint
    assert Retrieval(str(tmp_path), (0.8, 0.2, 0.0)).available == ["train", "validation"]


def test_splits_that_there_are_not(tmp_path: Path) -> None:
    large(tmp_path, "test")
    with pytest.raises(DataError, match=r"no judgements of the train split; it has: test") as caught:
        Retrieval(str(tmp_path)).judgements("train")
    assert "shares: [0.6, 0.2, 0.2]" in str(caught.value.hint)
    with pytest.raises(DataError, match="the shares 0.6, 0.6, 0.2 do not add up to 1"):
        Retrieval(str(tmp_path), (0.6, 0.6, 0.2)).judgements("train")
    large(tmp_path, "test", "train")
    with pytest.raises(DataError, match=r"split already \(train, test\)"):
        Retrieval(str(tmp_path), SHARES).judgements("train")


def test_a_streamed_corpus_has_the_same_texts(tmp_path: Path) -> None:
    write_beir(tmp_path)
    assert list(Retrieval(str(tmp_path), in_memory=1).corpus.texts) == list(Retrieval(str(tmp_path)).corpus.texts)


def test_candidates_come_from_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    console.configure()
    write_beir(tmp_path)
    run = tmp_path / "a.run"
    run.write_text("q1 Q0 d2 1 0.5 x\nq1 Q0 d10 1 0.7 x\nq3 Q0 d1 1 1 x\n", encoding="utf-8")
    data = Retrieval(str(tmp_path), candidates=RunFile(str(run)))
    assert [ranking.documents.tolist() for ranking in data.candidates("test")] == [[2, 1], []]
    assert re.search(r"1 of 2 test queries have no candidates in .*: they score 0", capsys.readouterr().err)
    assert data.fingerprint != Retrieval(str(tmp_path)).fingerprint
    with pytest.raises(DataError, match="there are no candidates to rank"):
        Retrieval(str(tmp_path)).candidates("test")
    run.write_text("q3 Q0 d1 1 1 x\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no candidates of the queries of the test split"):
        Retrieval(str(tmp_path), candidates=RunFile(str(run))).candidates("test")
    training = Retrieval(str(large(tmp_path / "large", "train", "dev")), candidates=RunFile(str(run)))
    assert sum(map(len, training.candidates("train"))) == 1
    assert "19 of 20 train queries have no candidates" in (said := capsys.readouterr().err)
    assert "score 0" not in said  # nobody scores training queries


def test_training_lists_are_of_queries_without_judgements_or_of_the_training_split(tmp_path: Path) -> None:
    write_beir(tmp_path)  # q3 has no relevant document: nobody judges it
    run = tmp_path / "a.run"
    run.write_text("q1 Q0 d2 1 0.5 x\nq3 Q0 d1 1 1 x\nq3 Q0 d2 1 0.5 x\n", encoding="utf-8")
    data = Retrieval(str(tmp_path), candidates=RunFile(str(run)))
    lists = data.training_lists(3, None, 0)
    assert len(lists) == 3
    assert {query for query, _ in lists.texts} == {"nothing fits"}
    assert lists.texts[2] == lists.texts[0]
    write_beir(tmp_path, train=[("q1", "d2", 1)], dev=[("q2", "d2", 1)])
    run.write_text("q1 Q0 d2 1 0.5 x\nq1 Q0 d1 1 0.4 x\nq3 Q0 d1 1 1 x\nq3 Q0 d2 1 0.5 x\n", encoding="utf-8")
    judged = Retrieval(str(tmp_path), candidates=RunFile(str(run))).training_lists(2, 1, 0)
    assert {query for query, _ in judged.texts} == {"what lifts?"}
