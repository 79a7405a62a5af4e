"""Candidates of an embedder, written as a run file."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from compress.core.errors import ModelError, UsageError
from compress.data.presets import resolve
from compress.data.retrieval import Retrieval
from compress.data.runs import read_trec_run
from compress.inference import retriever
from compress.inference.retriever import FoundCandidates, open_task, write_candidates
from tests import tiny
from tests.unit.data.retrieval_files import write_beir


def test_every_query_has_candidates_judged_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retriever, "MAX_CANDIDATES", 2)
    embedder, folder = tiny.write_embedder(tmp_path / "model"), str(write_beir(tmp_path / "beir"))
    assert write_candidates(embedder, folder, tmp_path / "a.run") == (3, 6)
    data = Retrieval(folder)
    rankings = read_trec_run(str(tmp_path / "a.run"), data.queries, data.corpus)
    assert [len(ranking) for ranking in rankings] == [2, 2, 2]
    assert all(-1.001 < score < 1.001 for ranking in rankings for score in ranking.scores)
    plain = tiny.write_encoder(tmp_path / "plain")
    assert write_candidates(plain, folder, tmp_path / "b.run", pooling="mean") == (3, 6)


def test_what_is_no_retriever(tmp_path: Path) -> None:
    classifier, folder = tiny.write_checkpoint(tmp_path / "model"), str(write_beir(tmp_path / "beir"))
    with pytest.raises(ModelError, match="is no embedder, and cannot search a corpus"):
        write_candidates(classifier, folder, tmp_path / "a.run")
    with pytest.raises(UsageError, match="cannot be written"):
        write_candidates(classifier, folder, tmp_path / "none" / "a.run")


def test_a_task_finds_its_candidates_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    embedder, folder = tiny.write_embedder(tmp_path / "model"), str(write_beir(tmp_path / "beir"))
    write_candidates(embedder, folder, tmp_path / "a.run")
    task = {"kind": "text-ranking", "beir": folder}
    found = open_task(resolve({**task, "retriever": str(embedder)}))
    assert found.fingerprint
    assert not (tmp_path / "cache").exists()  # nothing is searched to know that the data is the same
    read = open_task(resolve({**task, "run": str(tmp_path / "a.run")}))
    pairs = [given.model_inputs("test") for given in (found, read)]
    assert pairs[0].texts == pairs[1].texts
    few = open_task(resolve({**task, "run": str(tmp_path / "a.run"), "candidates": 2}))
    assert few.model_inputs("test").texts == [text for number, text in enumerate(pairs[1].texts) if number % 3 < 2]
    assert few.fingerprint != read.fingerprint
    monkeypatch.setattr(retriever, "rank_corpus", None)
    assert open_task(found.spec).model_inputs("test").texts == pairs[0].texts
    other, sources = FoundCandidates(str(tiny.write_embedder(tmp_path / "other", seed=1))), Retrieval(folder).sources
    assert other.digest(sources) != FoundCandidates(str(embedder)).digest(sources)
    with pytest.raises(ModelError, match="is no embedder"):
        assert open_task(resolve({**task, "retriever": str(tiny.write_checkpoint(tmp_path / "classifier"))})).fingerprint


def test_nothing_is_searched_to_know_the_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, folder = tiny.write_embedder(tmp_path / "model"), str(write_beir(tmp_path / "beir"))
    monkeypatch.setattr(retriever, "rank_corpus", None)
    task = open_task(resolve({"kind": "text-ranking", "beir": folder, "retriever": str(embedder)}))
    assert task.available == ["train", "test"]  # q3 has no relevant document: it is judged in no split


def test_candidates_of_another_length_are_others(tmp_path: Path) -> None:
    embedder, sources = tiny.write_embedder(tmp_path / "model"), Retrieval(str(write_beir(tmp_path / "beir"))).sources
    before = FoundCandidates(str(embedder)).digest(sources)
    (embedder / "sentence_bert_config.json").write_text('{"max_seq_length": 5}', encoding="utf-8")
    assert FoundCandidates(str(embedder)).digest(sources) != before


def test_a_search_needs_no_judgements(tmp_path: Path) -> None:
    folder = write_beir(tmp_path / "beir")
    shutil.rmtree(folder / "qrels")
    assert write_candidates(tiny.write_embedder(tmp_path / "model"), str(folder), tmp_path / "a.run") == (3, 9)
