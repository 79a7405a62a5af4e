"""Queries with their candidates."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compress.data.collection import Collection
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.rankings import NOTHING, DocumentRanking
from compress.inference.candidate_ranking import CandidateRanking
from compress.models.tokenizer import load_tokenizer
from tests import tiny

CORPUS = Collection(["b", "a", "c"], [("the dog",), ("my soup",), ("red",)], "corpus")


def candidates(*documents: int) -> DocumentRanking:
    return DocumentRanking(np.array(documents), np.zeros(len(documents), dtype=np.float32))


def test_candidates_are_ordered_by_score_and_then_by_id() -> None:
    ranking = CandidateRanking(CORPUS, [candidates(0, 1, 2), NOTHING, candidates(2, 0)])
    logits = np.array([[0.5], [0.5], [-1.0], [0.1], [0.2]], dtype=np.float32)
    first, second, third = ranking.rankings(logits, 3, Path("unused"))
    assert first.documents.tolist() == [0, 1, 2]
    assert first.scores.tolist() == [0.5, 0.5, -1.0]
    assert len(second) == 0
    assert third.documents.tolist() == [0, 2]


def test_pairs_are_encoded_query_by_query(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "model", target="value")
    ranking = CandidateRanking(CORPUS, [candidates(2, 0), NOTHING, candidates(0)])
    data = ranking.encode(folder, Examples([("cat",), ("horse",), ("tea",)], np.zeros(3)), InputSpec("value", 16))
    tokenizer = load_tokenizer(folder)
    expected = [tokenizer.encode(*pair).ids for pair in (("cat", "red"), ("cat", "the dog"), ("tea", "the dog"))]
    assert [ids.tolist() for ids in data.input_ids] == expected
