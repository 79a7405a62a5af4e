"""Vocabulary pruning: remove the embeddings of tokens that a task's texts do not use, and their entries in the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import nn

from compress.core.errors import ModelError, UsageError
from compress.editing.tokenizer_pruning import required_tokens, shrink_tokenizer, token_counts
from compress.models.family import family_of
from compress.models.low_rank import FactoredEmbedding, set_word_embeddings, word_embeddings
from compress.models.tokenizer import load_tokenizer
from compress.models.types import TransformersModel

CONFIG_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id")


def prune_vocab(
    model: TransformersModel, source: Path, texts: Iterable[tuple[str, ...]], scratch: Path, words: bool = False
) -> dict[str, int]:
    """Remove the tokens that the texts do not use from a model, in place, and write its new tokenizer into `scratch`.

    Args:
        model: dense or compressed.
        source: the folder of its tokenizer.
        texts: of each example.
        scratch: an existing folder.
        words: whether the strings are the words of one text; see `token_counts`.

    Returns:
        `vocab_before`, `vocab_after`.

    Raises:
        ModelError: an unsupported type of tokenizer, or a padding id that would change and with it the model's positions.
    """
    tokenizer = load_tokenizer(source)
    used = set(token_counts(tokenizer, texts, words))
    kept = _with_padding(model, required_tokens(json.loads(tokenizer.to_str()), used))
    before = model.config.vocab_size
    keep_tokens(model, source, kept, scratch)
    return {"vocab_before": before, "vocab_after": len(kept)}


def frequent_tokens(model: TransformersModel, source: Path, texts: Iterable[tuple[str, ...]], count: int, words: bool = False) -> list[int]:
    """Return the ids of at most `count` tokens: those that must be kept, and the most frequent ones of the texts.

    A text with a removed token is then split into smaller tokens than before.

    Raises:
        ModelError: an unsupported type of tokenizer.
        UsageError: more tokens than `count` must be kept.
    """
    tokenizer = load_tokenizer(source)
    document = json.loads(tokenizer.to_str())
    ranked = [number for number, _ in sorted(token_counts(tokenizer, texts, words).items(), key=lambda item: (-item[1], item[0]))]

    def kept(most: int) -> list[int]:
        return _with_padding(model, required_tokens(document, set(ranked[:most])))

    least = len(kept(0))
    if least > count:
        raise UsageError(f"vocab={count} is less than the {least:,} tokens that must stay (specials, single characters)", f"vocab={least}")
    low, high = 0, len(ranked)
    while low < high:  # bisection: more ranked tokens never need fewer tokens in all
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(kept(middle)) <= count else (low, middle - 1)
    return kept(low)


def keep_tokens(model: TransformersModel, source: Path, kept: list[int], scratch: Path) -> None:
    """Remove all tokens but the kept ones from a model, in place, and write its new tokenizer into `scratch`.

    Raises:
        ModelError: a padding id that would change, in a family that numbers positions from it.
    """
    padding = getattr(model.config, "pad_token_id", None)
    if padding is not None and kept.index(padding) != padding and family_of(model.config.model_type).positions_after_padding:
        raise ModelError("the padding token's id would move, and this family counts positions from it")
    shrink_tokenizer(source, scratch, kept)
    shrink_embeddings(model, kept)


def shrink_embeddings(model: TransformersModel, kept: Sequence[int]) -> None:
    """Keep the word embeddings of some tokens, in place, and renumber the config's special tokens."""
    embeddings = word_embeddings(model)
    old = embeddings.table if isinstance(embeddings, FactoredEmbedding) else embeddings
    new_ids = {token: number for number, token in enumerate(kept)}
    rows = old.weight.detach()[list(kept)].clone()
    padding = new_ids.get(old.padding_idx) if old.padding_idx is not None else None
    table = nn.Embedding(len(kept), rows.shape[1], padding_idx=padding, _weight=rows)
    if isinstance(embeddings, FactoredEmbedding):
        embeddings.table, embeddings.num_embeddings, embeddings.padding_idx = table, len(kept), padding
    else:
        set_word_embeddings(model, table)
    model.config.vocab_size = len(kept)
    for name in CONFIG_IDS:
        number = getattr(model.config, name, None)
        if isinstance(number, int) and number in new_ids:
            setattr(model.config, name, new_ids[number])


def _with_padding(model: TransformersModel, tokens: list[int]) -> list[int]:
    """Return the ids that the model has embeddings for, including the padding token's."""
    kept = [number for number in tokens if number < model.config.vocab_size]
    padding = getattr(model.config, "pad_token_id", None)
    return kept if padding is None or padding in kept else sorted([*kept, padding])
