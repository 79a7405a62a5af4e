"""Variants of texts by a masked language model: some words are hidden, and others that fit take their places.

The augmentation of TinyBERT (Jiao et al. 2020, arXiv 1909.10351, section 4.3 and algorithm 1), but for three things: the words of a
variant are hidden together, so that it costs one pass of the language model and not one a word; their share is drawn for each
variant, so that some stay close; and a word of several pieces gives way to a whole one by the same model, without word vectors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel
from tokenizers.models import WordPiece

from compress.core import caches, console, digests, files, processes
from compress.core.errors import ModelError
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.data.encoding import cut_texts
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.texts import examples_from_texts
from compress.distill.augment import glue, words_of
from compress.distill.cache_files import stored
from compress.models.config import max_tokens, read_config
from compress.models.device import to_tensors
from compress.models.masked_lm import load_masked_lm
from compress.models.reference import digest_model, locate
from compress.models.task_loss import logits_of
from compress.models.tokenizer import MASK_TOKENS, load_tokenizer, mask_token, pad_id

SHARE = (0.1, 0.4)  # of a text's words that give way; the paper's p_t is 0.4
CANDIDATES = 15  # the paper's K
MAX_SCORES = 1 << 26  # in a batch: tokens times words, 256 MiB of float32
MAX_BATCH = 64
CHUNK = 4096  # texts
VERSION = 1
_WORD = re.compile(r"^(\W*)(\w|\w.*\w)(\W*)$", re.DOTALL)  # what is replaced stands between marks, which stay


@dataclass(frozen=True)
class Draft:
    """A text to be changed: its words, the places of the hidden ones, and for each a draw of its substitute, in [0, 1)."""

    words: tuple[str, ...]
    hidden: list[int]
    draws: list[float]

    def masked(self, mask: str) -> tuple[str, ...]:
        """Return the words with the mask in the place of every hidden one, marks around it kept."""
        words = list(self.words)
        for place in self.hidden:
            words[place] = in_place(words[place], mask)
        return tuple(words)


def substituted(
    texts: Sequence[tuple[str, ...]], input_spec: InputSpec, copies: int, seed: int, model: str, device: torch.device
) -> Examples:
    """Return `copies` variants of every text, without labels; made once and kept on disk.

    In each a tenth to four tenths of the words are replaced, at least one, each by one of the 15 likeliest others. Of two texts
    both change, each by itself. A question keeps its words, its context changes. A tagged sentence keeps its number of words.
    Words beyond what the language model reads at once stay as they are.

    Args:
        texts: of a task's examples: one or two an example, or the words of a sentence (tags).
        input_spec: of the task: what the texts are.
        copies: variants of each.
        seed: of every draw.
        model: a masked language model: a folder or a hub id.
        device: where to compute.

    Raises:
        ModelError: not a masked language model, or one without a tokenizer that has a mask.
        ResourceError: the cache's disk is full, or a hub model cannot be had.
    """

    def kept() -> list[list[str]]:
        source = locate(model)
        key = digests.digest_json(
            [VERSION, digest_model(source), digests.digest_json([list(text) for text in texts]), input_spec.target, copies, seed]
        )
        needed = 2 * copies * sum(len(part) for text in texts for part in text)

        def compute(folder: Path) -> dict[str, Any]:
            made = _variants(texts, input_spec, copies, seed, Writer(source, device))
            files.write_json(folder / "texts.json", [list(text) for text in made])
            return {"kind": "variants"}

        with stored(caches.cache_root() / "variants" / key, needed, compute, "variants of the texts") as folder:
            return files.read_json(folder / "texts.json", limit=1 << 40)

    return examples_from_texts([tuple(text) for text in processes.from_main(kept)], input_spec)


def _variants(texts: Sequence[tuple[str, ...]], input_spec: InputSpec, copies: int, seed: int, writer: Writer) -> list[tuple[str, ...]]:
    rng = np.random.default_rng(seed)
    if input_spec.target == "tags":
        drafts = [drafted(text, rng) for _ in range(copies) for text in texts]
        return writer.filled(drafts, [" "] * len(drafts))
    made = [list(text) for _ in range(copies) for text in texts]
    first = 1 if input_spec.target == "span" else 0
    places = [(text, part) for text in made for part in range(first, len(text))]
    before = [text[part] for text, part in places]
    found = writer.filled([drafted(words_of(text), rng) for text in before], before)
    for (text, part), words, own in zip(places, found, before, strict=True):
        text[part] = glue(words, own)
    return [tuple(text) for text in made]


def drafted(words: tuple[str, ...], rng: np.random.Generator) -> Draft:
    """Draw which words of a text give way: a share of those with a letter or a digit, one at least where there is any."""
    taken = any(mask in "".join(words) for mask in MASK_TOKENS)  # a text about masks: its own would be filled
    able = [] if taken else [place for place, word in enumerate(words) if _WORD.fullmatch(word)]
    count = min(len(able), max(1, round(len(able) * rng.uniform(*SHARE))))
    hidden = sorted(rng.choice(able, count, replace=False).tolist()) if count else []
    return Draft(words, hidden, rng.random(count).tolist())


def in_place(word: str, other: str) -> str:
    """Return the word with another in its place, its marks kept: `"(movie),"` and `film` give `"(film),"`."""
    return _WORD.sub(lambda found: found[1] + other + found[3], word, count=1)


def like_case(word: str, other: str) -> str:
    """Return a substitute with the capitals of what it replaces."""
    inside = _WORD.fullmatch(word)
    core = inside[2] if inside else word
    if other != other.lower():
        return other
    if core.isupper() and len(core) > 1:
        return other.upper()
    return other[:1].upper() + other[1:] if core[:1].isupper() else other


class Writer:
    """A masked language model with its tokenizer.

    Args:
        folder: of both.
        device: where to compute.

    Raises:
        ModelError: not a masked language model, or a tokenizer without a mask.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.model, self.device = load_masked_lm(folder).to(device), device
        config = read_config(folder)
        self.tokenizer = cut_texts(load_tokenizer(folder, config["vocab_size"]), max_tokens(config))
        mask = mask_token(self.tokenizer)
        if mask is None:
            raise ModelError(f"the tokenizer in {folder} has no mask", f"it should have one of {', '.join(MASK_TOKENS)}")
        self.mask, self.mask_id, self.pad = mask, self.tokenizer.token_to_id(mask), pad_id(folder)
        self.names = whole_words(self.tokenizer)
        if not self.names:
            raise ModelError(f"the tokenizer in {folder} has no token that is a word by itself", "take another masked language model")

    def filled(self, drafts: Sequence[Draft], likes: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the words of every draft with the hidden ones replaced; `likes` tell how words are joined (see `glue`)."""
        texts = [glue(draft.masked(self.mask), like) for draft, like in zip(drafts, likes, strict=True)]
        chunks = (texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK))  # what the tokenizer returns is large
        ids = [np.array(entry.ids, dtype=np.int64) for chunk in chunks for entry in self.tokenizer.encode_batch_fast(chunk)]
        data = Encoded(ids, [np.zeros_like(row) for row in ids], np.zeros(len(ids), dtype=np.int64), self.pad)
        at_once = max(1, MAX_SCORES // self.model.config.vocab_size)
        batches = evaluation_batches(data.lengths, MAX_BATCH, at_once)
        made = [draft.words for draft in drafts]
        barred = torch.full((self.model.config.vocab_size,), -torch.inf)
        barred[list(self.names)] = 0.0
        barred = barred.to(self.device)
        with console.progress("variants of the texts", len(batches)) as advance, torch.inference_mode():
            for positions in batches:
                batch = to_tensors(data.batch(positions), self.model, self.device)
                masked = batch["input_ids"] == self.mask_id
                scores = logits_of(self.model(**batch))[masked] + barred
                likely = iter(scores.topk(min(CANDIDATES + 1, len(self.names))).indices.tolist())
                for number, count in zip(positions.tolist(), masked.sum(dim=1).tolist(), strict=True):
                    options = [[self.names[word] for word in next(likely)] for _ in range(count)]
                    made[number] = _written(drafts[number], options)
                advance()
        return made


def _written(draft: Draft, options: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return a draft's words, the hidden ones replaced; those beyond what was read (no options) stay."""
    words = list(draft.words)
    for place, draw, likely in zip(draft.hidden, draft.draws, options, strict=False):
        inside = _WORD.fullmatch(words[place])
        own = inside[2].casefold() if inside else ""
        others = [word for word in likely if word.casefold() != own][:CANDIDATES]
        if others:
            words[place] = in_place(words[place], like_case(words[place], others[int(draw * len(others))]))
    return tuple(words)


def whole_words(tokenizer: Tokenizer) -> dict[int, str]:
    """Return the tokens that are words by themselves, as they are written, by number.

    Of WordPiece those that do not go on another (`##ing`); of byte-level BPE and SentencePiece those that start with a blank.
    """
    specials = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    pieces = isinstance(tokenizer.model, WordPiece)
    blank = "" if pieces else "\u0120" if isinstance(tokenizer.decoder, ByteLevel) else "\u2581"
    words = {}
    for token, number in tokenizer.get_vocab().items():
        if number in specials or not token.startswith(blank):
            continue
        text = token if pieces else tokenizer.decode([number]).strip()  # byte-level tokens are not written as they read
        if text[:1].isalnum() and all(character.isalnum() or character in "'-" for character in text):
            words[number] = text
    return words
