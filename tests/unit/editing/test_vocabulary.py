"""Vocabulary pruning: the same logits for every text whose tokens are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compress.core.errors import ModelError, UsageError
from compress.data.input_spec import InputSpec
from compress.data.texts import examples_from_texts
from compress.editing import vocabulary
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.inputs import encode_for
from compress.models.low_rank import FactoredEmbedding, set_word_embeddings, word_embeddings
from compress.models.tokenizer import load_tokenizer
from tests import tiny

TEXTS = [text for text, _ in tiny.sentences(80)]


def test_logits_stay_the_same_and_the_model_reloads(family: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = tiny.write_checkpoint(tmp_path / "a", family)
    model = load_model(source)
    texts = TEXTS[:6]
    forward, input_spec = torch_forward(model), InputSpec(max_length=64)
    data = encode_for(source, examples_from_texts(texts, input_spec), input_spec)
    expected = forward(data.batch(range(6)))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "b").mkdir()
    result = vocabulary.prune_vocab(model, source, [(text,) for text in texts], tmp_path / "scratch")
    save_model(model, tmp_path / "b", tmp_path / "scratch")
    assert result["vocab_after"] < result["vocab_before"] == len(tiny.vocabulary(family))
    again = load_model(tmp_path / "b")
    assert again.config.vocab_size == result["vocab_after"]
    batch = encode_for(tmp_path / "b", examples_from_texts(texts, input_spec), input_spec).batch(range(6))
    np.testing.assert_allclose(torch_forward(again)(batch), expected, atol=1e-6)
    opened = AutoTokenizer.from_pretrained(str(tmp_path / "b"))
    assert opened(texts[0])["input_ids"] == load_tokenizer(tmp_path / "b").encode(texts[0]).ids


def test_embeddings_follow_the_kept_tokens() -> None:
    model = tiny.make_model()
    before = model.get_input_embeddings().weight.detach().clone()
    vocabulary.shrink_embeddings(model, [0, 1, 2, 3, 7, 9])
    assert torch.equal(model.get_input_embeddings().weight, before[[0, 1, 2, 3, 7, 9]])
    assert model.get_input_embeddings().padding_idx == 0


def test_factorized_embeddings_follow_the_kept_tokens() -> None:
    model = tiny.make_model()
    old = word_embeddings(model)
    set_word_embeddings(model, FactoredEmbedding(old.num_embeddings, old.embedding_dim, 5, old.padding_idx))
    kept = [0, 1, 2, 3, 7, 9]
    with torch.no_grad():
        expected = word_embeddings(model)(torch.tensor(kept))
        vocabulary.shrink_embeddings(model, kept)
        assert torch.equal(word_embeddings(model)(torch.arange(len(kept))), expected)
    assert (word_embeddings(model).num_embeddings, word_embeddings(model).padding_idx, model.config.vocab_size) == (6, 0, 6)


def test_frequent_tokens_are_those_of_the_texts(tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "a")
    model, texts = load_model(source), [("dog dog dog cat cat red",)]
    least = len(vocabulary.frequent_tokens(model, source, [], 10_000))
    names = {number: name for name, number in load_tokenizer(source).get_vocab().items()}
    added = [
        {names[number] for number in vocabulary.frequent_tokens(model, source, texts, least + count)}
        - {names[number] for number in vocabulary.frequent_tokens(model, source, [], 10_000)}
        for count in range(3)
    ]
    assert added[0] == set()
    assert added[1] < added[2]
    with pytest.raises(UsageError, match="tokens that must stay"):
        vocabulary.frequent_tokens(model, source, texts, least - 1)


def test_a_padding_id_that_would_move_positions_is_refused(tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "a", "roberta")
    with pytest.raises(ModelError, match="padding token's id would move"):
        vocabulary.keep_tokens(load_model(source), source, [1, 2, 3, 4], tmp_path)
