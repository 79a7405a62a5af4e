"""Augment texts without a model: spans of texts, spans of two texts joined, and masked words.

On its own training sentences a teacher only repeats what its student saw before. Parts of sentences and unlikely neighbours are where
the two still differ, and they need no label: every variant gets the teacher's own logits, never those of its source. `word_substitution`
augments with a masked language model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.core.errors import UsageError
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec, Target
from compress.data.texts import examples_from_texts

LONG = (0.3, 0.9)  # share of a text's words in a single span
SHORT = (0.2, 0.6)  # and in a span that is joined with another
PAIRED = (0.6, 1.0)  # of a text of a pair: the relation of the two must not get lost too often
MASKED = 0.1  # share of a variant's words: p_mask of Tang et al. 2019 (arXiv 1903.12136), section 3.3
UNSPACED = 12  # characters without a space from which a text counts as written without spaces


def check_augmentation(copies: int, target: Target) -> None:
    """Refuse variants of texts whose labels say where mentions stand.

    Raises:
        UsageError: variants are asked for.
    """
    if copies and target == "mentions":
        raise UsageError(
            "augmentation would move or replace the mentions of a text", "leave out --augment, or give more pairs with --unlabeled"
        )


def augment_texts(texts: Sequence[tuple[str, ...]], input_spec: InputSpec, copies: int, seed: int, mask: str | None = None) -> Examples:
    """Return `copies` variants of every text, without labels.

    A single text becomes a span of its words, or a span of it joined with one of another text. In a pair each text becomes a span, or the
    second one is replaced by that of another example. A question does not change, its context becomes a span. A tagged sentence is
    treated like a single text. In everything but questions a tenth of the words is masked.

    Args:
        texts: of a task's examples: one or two per example, or the words of a sentence (tags).
        input_spec: of the task.
        copies: variants of each text.
        seed: of every draw.
        mask: the mask token of the models; None: no word is masked.
    """
    rng = np.random.default_rng(seed)
    variants = [_variant(texts, number, input_spec.target, rng) for _ in range(copies) for number in range(len(texts))]
    if mask is not None:
        variants = [_masked(text, input_spec.target, mask, rng) for text in variants]
    return examples_from_texts(variants, input_spec)


def _masked(text: tuple[str, ...], target: Target, mask: str, rng: np.random.Generator) -> tuple[str, ...]:
    def mask_words(words: Sequence[str]) -> tuple[str, ...]:
        return tuple(mask if draw < MASKED else word for word, draw in zip(words, rng.random(len(words)), strict=True))

    if target == "tags":
        return mask_words(text)
    first = 1 if target == "span" else 0
    return text[:first] + tuple(join_words(mask_words(words_in(part)), part) for part in text[first:])


def _variant(texts: Sequence[tuple[str, ...]], number: int, target: Target, rng: np.random.Generator) -> tuple[str, ...]:
    text, other = texts[number], texts[int(rng.integers(len(texts)))]
    single = rng.random() < 0.5
    if target == "tags":
        return _span(text, LONG, rng) if single else _span(text, SHORT, rng) + _span(other, SHORT, rng)
    if target == "span":
        return text[0], _span_of_text(text[1], LONG, rng)
    if len(text) == 2:
        first, second = (_span_of_text(part, PAIRED, rng) for part in (text[0], text[1] if single else other[1]))
        return first, second
    if single:
        return (_span_of_text(text[0], LONG, rng),)
    first, second = (_span(words_in(part), SHORT, rng) for part in (text[0], other[0]))
    return (join_words(first + second, text[0]),)


def _span_of_text(text: str, share: tuple[float, float], rng: np.random.Generator) -> str:
    return join_words(_span(words_in(text), share, rng), text)


def words_in(text: str) -> tuple[str, ...]:
    """Split a text at spaces, or into characters if it is written without spaces."""
    return tuple(text) if _is_unspaced(text) else tuple(text.split())


def join_words(words: Sequence[str], like: str) -> str:
    """Join words with spaces, or without if the text `like` is written without spaces."""
    return ("" if _is_unspaced(like) else " ").join(words)


def _is_unspaced(text: str) -> bool:
    return len(text) >= UNSPACED and not any(character.isspace() for character in text.strip())


def _span(words: tuple[str, ...], share: tuple[float, float], rng: np.random.Generator) -> tuple[str, ...]:
    """Draw a contiguous span with a share of the words, at least one."""
    if not words:
        return words
    length = max(1, round(len(words) * rng.uniform(*share)))
    start = int(rng.integers(len(words) - length + 1))
    return words[start : start + length]
