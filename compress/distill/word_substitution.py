"""Augment texts with a masked language model: some words are masked and replaced by others that fit.

The augmentation of TinyBERT (Jiao et al. 2020, arXiv 1909.10351, section 4.3 and algorithm 1) with three differences: the words of a
variant are masked together, so that a variant costs one forward pass instead of one per word; their share is drawn for each variant, so
that some variants stay close; and the same model replaces a word of several tokens by a word of one token, without word vectors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import WordPiece

from compress.core import caches, console, digests, files, processes
from compress.core.disk_cache import cached_folder
from compress.core.errors import ModelError
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.data.encoding import cut_texts
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.texts import examples_from_texts
from compress.data.tokenizing import encode_batch
from compress.distill.augment import join_words, words_in
from compress.models.config import max_tokens, read_config
from compress.models.device import to_tensors
from compress.models.masked_lm import load_masked_lm
from compress.models.reference import digest_model, locate
from compress.models.task_loss import logits_of
from compress.models.tokenizer import MASK_TOKENS, load_tokenizer, mask_token, pad_id

SHARE = (0.1, 0.4)  # of a text's words that are replaced; the paper's p_t is 0.4
CANDIDATES = 15  # the paper's K
MAX_SCORES = 1 << 26  # tokens times vocabulary in a batch: 256 MiB of float32
MAX_BATCH = 64
CHUNK = 4096  # texts tokenized at once
VERSION = 1
_WORD = re.compile(r"^(\W*)(\w|\w.*\w)(\W*)$", re.DOTALL)  # punctuation around a word stays


@dataclass(frozen=True)
class MaskedWords:
    """The words of a text, the positions of those to replace, and for each a draw of its replacement, in [0, 1)."""

    words: tuple[str, ...]
    positions: list[int]
    draws: list[float]

    def masked(self, mask: str) -> tuple[str, ...]:
        """Return the words with the mask token instead of those to replace, keeping the punctuation around them."""
        words = list(self.words)
        for position in self.positions:
            words[position] = replace_core(words[position], mask)
        return tuple(words)


def substitute_words(
    texts: Sequence[tuple[str, ...]], input_spec: InputSpec, copies: int, seed: int, model: str, device: torch.device
) -> Examples:
    """Return `copies` variants of every text, without labels, from the cache or computed and cached.

    In each variant 10 to 40 % of the words are replaced, at least one, each by one of its 15 most likely replacements. Both texts of a
    pair change, independently. A question does not change, its context does. A tagged sentence keeps its number of words. Words beyond
    the language model's maximum length do not change.

    Args:
        texts: of a task's examples: one or two per example, or the words of a sentence (tags).
        input_spec: of the task.
        copies: variants of each text.
        seed: of every draw.
        model: a masked language model: a folder or a hub id.
        device: where to compute.

    Raises:
        ModelError: it is no masked language model, or its tokenizer has no mask token.
        ResourceError: the cache's disk is full, or a hub model is unavailable.
    """

    def cached() -> list[list[str]]:
        source = locate(model)
        key = digests.digest_json(
            [VERSION, digest_model(source), digests.digest_json([list(text) for text in texts]), input_spec.target, copies, seed]
        )
        needed = 2 * copies * sum(len(part) for text in texts for part in text)

        def compute(folder: Path) -> dict[str, object]:
            variants = _variants(texts, input_spec, copies, seed, WordSubstituter(source, device))
            files.write_json(folder / "texts.json", [list(text) for text in variants])
            return {"kind": "variants"}

        with cached_folder(caches.writable_root() / "variants" / key, needed, compute, "augmented texts") as folder:
            return files.read_json(folder / "texts.json", limit=1 << 40)

    return examples_from_texts([tuple(text) for text in processes.from_main(cached)], input_spec)


def _variants(
    texts: Sequence[tuple[str, ...]], input_spec: InputSpec, copies: int, seed: int, substituter: WordSubstituter
) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(seed)
    if input_spec.target == "tags":
        sentences = [choose_words(text, rng) for _ in range(copies) for text in texts]
        return substituter.substitute(sentences, [" "] * len(sentences))
    variants = [list(text) for _ in range(copies) for text in texts]
    first = 1 if input_spec.target == "span" else 0
    parts = [(text, number) for text in variants for number in range(first, len(text))]
    originals = [text[number] for text, number in parts]
    replaced = substituter.substitute([choose_words(words_in(text), rng) for text in originals], originals)
    for (text, number), words, original in zip(parts, replaced, originals, strict=True):
        text[number] = join_words(words, original)
    return [tuple(text) for text in variants]


def choose_words(words: tuple[str, ...], rng: np.random.Generator) -> MaskedWords:
    """Draw the words of a text to replace: a share of those with a letter or a digit, at least one if there is any."""
    has_mask = any(mask in "".join(words) for mask in MASK_TOKENS)  # a text about masks: its own ones would be replaced
    replaceable = [] if has_mask else [position for position, word in enumerate(words) if _WORD.fullmatch(word)]
    count = min(len(replaceable), max(1, round(len(replaceable) * rng.uniform(*SHARE))))
    positions = sorted(rng.choice(replaceable, count, replace=False).tolist()) if count else []
    return MaskedWords(words, positions, rng.random(count).tolist())


def replace_core(word: str, replacement: str) -> str:
    """Return a word replaced by another, keeping its punctuation: `"(movie),"` and `film` give `"(film),"`."""
    return _WORD.sub(lambda match: match[1] + replacement + match[3], word, count=1)


def like_case(word: str, replacement: str) -> str:
    """Return a replacement in the case of the word that it replaces."""
    match = _WORD.fullmatch(word)
    core = match[2] if match else word
    if replacement != replacement.lower():
        return replacement
    if core.isupper() and len(core) > 1:
        return replacement.upper()
    return replacement[:1].upper() + replacement[1:] if core[:1].isupper() else replacement


class WordSubstituter:
    """A masked language model with its tokenizer.

    Args:
        folder: of both.
        device: where to compute.

    Raises:
        ModelError: it is no masked language model, or its tokenizer has no mask token.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.model, self.device = load_masked_lm(folder).to(device), device
        config = read_config(folder)
        self.tokenizer = cut_texts(load_tokenizer(folder, config["vocab_size"]), max_tokens(config))
        mask = mask_token(self.tokenizer)
        if mask is None:
            raise ModelError(f"the tokenizer in {folder} has no mask token", f"it should have one of {', '.join(MASK_TOKENS)}")
        self.mask, self.mask_id, self.pad = mask, self.tokenizer.token_to_id(mask), pad_id(folder)
        self.whole_words = whole_words(self.tokenizer)
        if not self.whole_words:
            raise ModelError(f"no token of the tokenizer in {folder} is a whole word", "use another masked language model")

    def substitute(self, texts: Sequence[MaskedWords], originals: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the words of every text with replacements; `originals` say how words are joined (see `join_words`)."""
        data = self._encode([join_words(text.masked(self.mask), like) for text, like in zip(texts, originals, strict=True)])
        vocab_size = self.model.config.vocab_size
        batches = evaluation_batches(data.lengths, MAX_BATCH, max(1, MAX_SCORES // vocab_size))
        substituted = [text.words for text in texts]
        only_words = torch.full((vocab_size,), -torch.inf)
        only_words[list(self.whole_words)] = 0.0
        only_words = only_words.to(self.device)
        with console.progress("augmenting texts", len(batches)) as advance, torch.inference_mode():
            for positions in batches:
                batch = to_tensors(data.batch(positions), self.model, self.device)
                masked = batch["input_ids"] == self.mask_id
                scores = logits_of(self.model(**batch))[masked] + only_words
                top = iter(scores.topk(min(CANDIDATES + 1, len(self.whole_words))).indices.tolist())
                for number, count in zip(positions.tolist(), masked.sum(dim=1).tolist(), strict=True):
                    candidates = [[self.whole_words[token] for token in next(top)] for _ in range(count)]
                    substituted[number] = _replaced(texts[number], candidates)
                advance()
        return substituted

    def _encode(self, texts: Sequence[str]) -> Encoded:
        chunks = (texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK))  # the tokenizer's results are large
        ids = [np.array(entry.ids, dtype=np.int64) for chunk in chunks for entry in encode_batch(self.tokenizer, chunk, fast=True)]
        return Encoded(ids, [np.zeros_like(row) for row in ids], np.zeros(len(ids), dtype=np.int64), self.pad)


def _replaced(text: MaskedWords, candidates: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return a text's words with replacements; words beyond the maximum length have no candidates and stay."""
    words = list(text.words)
    for position, draw, likely in zip(text.positions, text.draws, candidates, strict=False):
        match = _WORD.fullmatch(words[position])
        original = match[2].casefold() if match else ""
        others = [word for word in likely if word.casefold() != original][:CANDIDATES]
        if others:
            words[position] = replace_core(words[position], like_case(words[position], others[int(draw * len(others))]))
    return tuple(words)


def whole_words(tokenizer: Tokenizer) -> dict[int, str]:
    """Return the tokens that are whole words, by id, as text.

    In WordPiece those that do not continue another token (`##ing`); in byte-level BPE and SentencePiece those that start with a space.
    """
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    is_wordpiece = isinstance(tokenizer.model, WordPiece)
    space = "" if is_wordpiece else "\u0120" if isinstance(tokenizer.decoder, ByteLevel) else "\u2581"
    words = {}
    for token, number in tokenizer.get_vocab().items():
        if number in special or not token.startswith(space):
            continue
        text = token if is_wordpiece else tokenizer.decode([number]).strip()  # byte-level tokens encode their text
        if text[:1].isalnum() and all(character.isalnum() or character in "'-" for character in text):
            words[number] = text
    return words
