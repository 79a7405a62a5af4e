"""More texts out of the ones at hand, for the teacher to judge: spans of texts, spans of two texts joined, words masked.

A student that meets its teacher on the teacher's own training sentences alone hears what it was told before. Parts of
sentences and unlikely neighbours are where the two still differ, and no label is needed: every variant gets the teacher's
own answer, never its parent's. Where a masked language model is at hand, `substitute` makes variants by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress.data.examples import Examples
from compress.data.input_spec import InputSpec, Target
from compress.data.texts import examples_from_texts

LONG = (0.3, 0.9)  # share of a text's words in a span of it
SHORT = (0.2, 0.6)  # and in a span that is joined to another
MOST = (0.6, 1.0)  # of a text that is one of two: what they share must not get lost too often
MASKED = 0.1  # of the words of a variant: p_mask of Tang et al. 2019 (arXiv 1903.12136), section 3.3
UNSPACED = 12  # characters without a space from which a text is taken to be written without spaces


def augmented(texts: Sequence[tuple[str, ...]], input_spec: InputSpec, copies: int, seed: int, mask: str | None = None) -> Examples:
    """Return `copies` variants of every text, without labels.

    A single text becomes a span of its words, or one span of it and one of another text. Of two texts each becomes a span,
    or the second one gives way to that of another example. A question keeps its words, its context loses some. A tagged
    sentence is cut and joined by words. In all but questions a tenth of the words gives way to the mask.

    Args:
        texts: of a task's examples: one or two an example, or the words of a sentence (tags).
        input_spec: of the task: what the texts are.
        copies: variants of each.
        seed: of every draw.
        mask: the token that hides a word from the models; None: no word is hidden.
    """
    rng = np.random.default_rng(seed)
    made = [_variant(texts, number, input_spec.target, rng) for _ in range(copies) for number in range(len(texts))]
    if mask is not None:
        made = [_masked(text, input_spec.target, mask, rng) for text in made]
    return examples_from_texts(made, input_spec)


def _masked(text: tuple[str, ...], target: Target, mask: str, rng: np.random.Generator) -> tuple[str, ...]:
    def hidden(words: Sequence[str]) -> tuple[str, ...]:
        return tuple(mask if draw < MASKED else word for word, draw in zip(words, rng.random(len(words)), strict=True))

    if target == "tags":
        return hidden(text)
    first = 1 if target == "span" else 0
    return text[:first] + tuple(glue(hidden(words_of(part)), part) for part in text[first:])


def _variant(texts: Sequence[tuple[str, ...]], number: int, target: Target, rng: np.random.Generator) -> tuple[str, ...]:
    text, other = texts[number], texts[int(rng.integers(len(texts)))]
    whole = rng.random() < 0.5
    if target == "tags":
        return _span(text, LONG, rng) if whole else _span(text, SHORT, rng) + _span(other, SHORT, rng)
    if target == "span":
        return text[0], _cut(text[1], LONG, rng)
    if len(text) == 2:
        first, second = (_cut(part, MOST, rng) for part in (text[0], text[1] if whole else other[1]))
        return first, second
    (alone,) = text
    if whole:
        return (_cut(alone, LONG, rng),)
    first, second = (_span(words_of(part), SHORT, rng) for part in (alone, other[0]))
    return (glue(first + second, alone),)


def _cut(text: str, share: tuple[float, float], rng: np.random.Generator) -> str:
    return glue(_span(words_of(text), share, rng), text)


def words_of(text: str) -> tuple[str, ...]:
    """Split a text at spaces; one written without them into characters."""
    return tuple(text) if _unspaced(text) else tuple(text.split())


def glue(words: Sequence[str], like: str) -> str:
    """Join words as those of a text are: with blanks, or without where it is written without them."""
    return ("" if _unspaced(like) else " ").join(words)


def _unspaced(text: str) -> bool:
    return len(text) >= UNSPACED and not any(character.isspace() for character in text.strip())


def _span(words: tuple[str, ...], share: tuple[float, float], rng: np.random.Generator) -> tuple[str, ...]:
    """Draw a contiguous span that holds a share of the words, one at least."""
    if not words:
        return words
    length = max(1, round(len(words) * rng.uniform(*share)))
    start = int(rng.integers(len(words) - length + 1))
    return words[start : start + length]
