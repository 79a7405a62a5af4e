"""A smaller vocabulary: the same tokens and the same logits for every text that it covers, of every kind of tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from compress.data.input_spec import InputSpec
from compress.data.texts import examples_from_texts
from compress.data.windows import split_words
from compress.editing import vocabulary
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.inputs import encode_for
from compress.models.low_rank import FactoredEmbedding, set_word_embeddings, word_embeddings
from compress.models.tokenizer import load_tokenizer
from tests import tiny

TEXTS = [text for text, _ in tiny.sentences(80)]


def write(folder: Path, kind: str) -> Path:
    """Write a tokenizer of a kind, trained on the tiny sentences."""
    folder.mkdir()
    if kind == "WordPiece":
        tiny.write_tokenizer(folder)
        return folder
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    if kind == "BPE":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer: Any = trainers.BpeTrainer(
            vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=150, special_tokens=special, unk_token=special[3], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "Unigram"])
@pytest.mark.parametrize("seed", range(4))
def test_texts_that_are_covered_are_cut_as_before(kind: str, seed: int, tmp_path: Path) -> None:
    source, target = write(tmp_path / "a", kind), tmp_path / "b"
    target.mkdir()
    chosen = [TEXTS[number] for number in np.random.default_rng(seed).choice(len(TEXTS), 5, replace=False)]
    before = load_tokenizer(source)
    kept = vocabulary.kept_tokens(
        json.loads((source / "tokenizer.json").read_text()), vocabulary.used_tokens(before, [(text,) for text in chosen])
    )
    vocabulary.shrink_tokenizer(source, target, kept)
    after = load_tokenizer(target, len(kept))
    assert len(kept) < before.get_vocab_size()
    covered = [text for text in TEXTS if set(before.encode(text).ids) <= set(kept)]
    assert set(chosen) <= set(covered)
    for text in covered:
        assert after.encode(text).tokens == before.encode(text).tokens
        assert [kept[number] for number in after.encode(text).ids] == before.encode(text).ids
    for text in TEXTS:  # the others fall into smaller pieces, and none becomes unknown
        assert "[UNK]" not in after.encode(text).tokens
        assert "<unk>" not in after.encode(text).tokens


def test_words_that_get_tags_are_cut_as_they_are_read(tmp_path: Path) -> None:
    """A byte-level tokenizer has a blank before every word of a sentence that is split already."""
    source, target = write(tmp_path / "a", "BPE"), tmp_path / "b"
    target.mkdir()
    words = [tuple(text.split()) for text in TEXTS[:3]]
    used = vocabulary.used_tokens(load_tokenizer(source), words, words=True)
    assert used != vocabulary.used_tokens(load_tokenizer(source), words)
    kept = vocabulary.kept_tokens(json.loads((source / "tokenizer.json").read_text()), used)
    vocabulary.shrink_tokenizer(source, target, kept)
    before, after = split_words(load_tokenizer(source)), split_words(load_tokenizer(target, len(kept)))
    for sentence in words:
        cut = [tokenizer.encode(list(sentence), is_pretokenized=True).tokens for tokenizer in (before, after)]
        assert cut[0] == cut[1]


def test_a_model_answers_as_before_and_reloads(family: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = tiny.write_checkpoint(tmp_path / "a", family)
    model = load_model(source)
    texts = TEXTS[:6]
    forward, input_spec = torch_forward(model), InputSpec(max_length=64)
    data = encode_for(source, examples_from_texts(texts, input_spec), input_spec)
    expected = forward(data.batch(range(6)))
    (tmp_path / "scratch").mkdir()
    (tmp_path / "b").mkdir()
    found = vocabulary.prune_vocab(model, source, [(text,) for text in texts], tmp_path / "scratch")
    save_model(model, tmp_path / "b", tmp_path / "scratch")
    assert found["vocab_after"] < found["vocab_before"] == len(tiny.vocabulary(family))
    again = load_model(tmp_path / "b")
    assert again.config.vocab_size == found["vocab_after"]
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


def test_factorized_embeddings_follow_too() -> None:
    model = tiny.make_model()
    old = word_embeddings(model)
    set_word_embeddings(model, FactoredEmbedding(old.num_embeddings, old.embedding_dim, 5, old.padding_idx))
    kept = [0, 1, 2, 3, 7, 9]
    with torch.no_grad():
        expected = word_embeddings(model)(torch.tensor(kept))
        vocabulary.shrink_embeddings(model, kept)
        assert torch.equal(word_embeddings(model)(torch.arange(len(kept))), expected)
    assert (word_embeddings(model).num_embeddings, word_embeddings(model).padding_idx, model.config.vocab_size) == (6, 0, 6)
