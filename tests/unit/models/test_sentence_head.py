"""The head of an embedder as a document, and for another width."""

from __future__ import annotations

import json

import pytest

from compress.core.errors import ModelError
from compress.models.sentence_head import EMBEDDING_KEY, NORMALIZE, DenseStep, SentenceHead, head_entry, head_for_width, sentence_head

HEAD = SentenceHead(("cls", "mean"), (DenseStep(64, 10, True, "Tanh"), NORMALIZE), 64, "dot", {"query": "q: ", "passage": "p: "}, "query")


def test_it_survives_as_json() -> None:
    document = json.loads(json.dumps(HEAD.as_json()))
    assert SentenceHead.from_json(document) == HEAD
    assert sentence_head({EMBEDDING_KEY: document}) == HEAD
    assert sentence_head({}) is None


def test_an_unsupported_one_is_refused_when_it_is_used() -> None:
    entry = head_entry(ModelError("the module Router is not supported", "hint"))
    with pytest.raises(ModelError, match="Router"):
        sentence_head({EMBEDDING_KEY: entry})


def test_prompts_by_name() -> None:
    assert HEAD.prompt == "q: "
    assert HEAD.prompt_for("document", "passage") == "p: "
    assert HEAD.prompt_for("document") == "q: "
    assert SentenceHead(("mean",)).prompt_for("query") == ""


def test_sizes() -> None:
    assert HEAD.size(32) == 10
    assert SentenceHead(("cls", "mean")).size(32) == 64
    assert SentenceHead(("cls",)).first_token_only
    assert not HEAD.first_token_only
    assert HEAD.normalized


def test_similarities_that_search_computes() -> None:
    normalized = SentenceHead(("mean",), (NORMALIZE,), similarity="euclidean")
    for head in (HEAD, normalized, SentenceHead(("mean",)), SentenceHead(("mean",), similarity="cosine")):
        head.check_similarity()
    assert not HEAD.compares_by_cosine
    assert normalized.compares_by_cosine
    for similarity in ("euclidean", "manhattan"):
        with pytest.raises(ModelError, match=f"compares vectors by '{similarity}'"):
            SentenceHead(("mean",), similarity=similarity).check_similarity()


def test_a_narrower_encoder_gets_a_dense_layer_in_front() -> None:
    assert head_for_width(HEAD, 32, 10) == HEAD
    assert head_for_width(HEAD, 16, 10).steps == (DenseStep(32, 64), *HEAD.steps)
    plain = SentenceHead(("mean",), (NORMALIZE,))
    assert head_for_width(plain, 16, 32).steps == (DenseStep(16, 32), NORMALIZE)
