"""Tokenizer pruning: the same tokens for every text that the kept ones cover, in every type of tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from compress.data.windows import split_words
from compress.editing.tokenizer_pruning import required_tokens, shrink_tokenizer, token_counts
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


def used_tokens(tokenizer: Tokenizer, texts: list[tuple[str, ...]], words: bool = False) -> set[int]:
    """Return the ids that occur in the texts."""
    return set(token_counts(tokenizer, texts, words))


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "Unigram"])
@pytest.mark.parametrize("seed", range(4))
def test_texts_whose_tokens_are_kept_are_split_as_before(kind: str, seed: int, tmp_path: Path) -> None:
    source, target = write(tmp_path / "a", kind), tmp_path / "b"
    target.mkdir()
    chosen = [TEXTS[number] for number in np.random.default_rng(seed).choice(len(TEXTS), 5, replace=False)]
    before = load_tokenizer(source)
    kept = required_tokens(json.loads((source / "tokenizer.json").read_text()), used_tokens(before, [(text,) for text in chosen]))
    shrink_tokenizer(source, target, kept)
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


def test_split_words_are_counted_as_the_model_reads_them(tmp_path: Path) -> None:
    """A byte-level tokenizer has a blank before every word of a sentence that is split already."""
    source, target = write(tmp_path / "a", "BPE"), tmp_path / "b"
    target.mkdir()
    words = [tuple(text.split()) for text in TEXTS[:3]]
    used = used_tokens(load_tokenizer(source), words, words=True)
    assert used != used_tokens(load_tokenizer(source), words)
    kept = required_tokens(json.loads((source / "tokenizer.json").read_text()), used)
    shrink_tokenizer(source, target, kept)
    before, after = split_words(load_tokenizer(source)), split_words(load_tokenizer(target, len(kept)))
    for sentence in words:
        cut = [tokenizer.encode(list(sentence), is_pretokenized=True).tokens for tokenizer in (before, after)]
        assert cut[0] == cut[1]
