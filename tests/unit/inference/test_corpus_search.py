"""Queries and their corpus: prompts by role, and rankings by cosine or dot product."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from compress.core.errors import ModelError
from compress.data.collection import Collection
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.streamed import StreamedTexts
from compress.inference import corpus_search
from compress.inference.corpus_search import CorpusSearch
from compress.models.tokenizer import load_tokenizer
from tests import tiny

TEXTS = [("the dog",), ("my soup",), ("red",)]
VECTORS = np.array([[1, 0], [0.1, 0], [0, 1], [5, 5]], dtype=np.float32)  # of a query and three documents


def embedder(folder: Path, **settings: object) -> Path:
    """Write an embedder that does not normalise, with these settings of sentence-transformers."""
    tiny.write_embedder(folder, normalize=False)
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("similarity", "order"), [("cosine", [0, 2, 1]), ("dot", [2, 0, 1])])
def test_rankings_follow_the_similarity_of_the_folder(tmp_path: Path, similarity: str, order: list[int]) -> None:
    search = CorpusSearch(Collection(["a", "b", "c"], TEXTS, "corpus"))
    (ranking,) = search.rankings(VECTORS, 1, embedder(tmp_path / "model", similarity_fn_name=similarity))
    assert ranking.documents.tolist() == order


def test_other_similarities_are_refused_before_any_work(tmp_path: Path) -> None:
    search = CorpusSearch(Collection(["a", "b", "c"], TEXTS, "corpus"))
    with pytest.raises(ModelError, match="compares vectors by 'manhattan'"):
        search.encode(embedder(tmp_path / "model", similarity_fn_name="manhattan"), Examples([("cat",)], np.zeros(1)), InputSpec("vector"))


@pytest.mark.parametrize("streamed", [False, True])
def test_queries_and_documents_get_their_prompts(tmp_path: Path, streamed: bool) -> None:
    folder = embedder(tmp_path / "model", prompts={"query": "we ", "passage": "you "})
    texts = StreamedTexts(lambda: iter(TEXTS), np.arange(3)) if streamed else TEXTS
    search = CorpusSearch(Collection(["a", "b", "c"], texts, "corpus"))
    data = search.encode(folder, Examples([("cat",)], np.zeros(1)), InputSpec("vector", 16))
    tokenizer = load_tokenizer(folder)
    expected = [tokenizer.encode(text).ids for text in ("we cat", "you the dog", "you my soup", "you red")]
    assert [list(ids) for ids in data.input_ids] == expected


def test_vectors_are_compared_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_search, "CORPUS_TILE", 3)
    blocks = list(corpus_search.comparable(VECTORS, embedder(tmp_path / "model", similarity_fn_name="cosine")))
    assert [len(block) for block in blocks] == [3, 1]
    assert np.linalg.norm(np.concatenate(blocks), axis=1) == pytest.approx(1.0)
    own = list(corpus_search.comparable(VECTORS, embedder(tmp_path / "dot", similarity_fn_name="dot")))
    assert all(np.shares_memory(block, VECTORS) for block in own)
