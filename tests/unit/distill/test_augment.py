"""Texts augmented by spans and masks."""

from __future__ import annotations

from itertools import pairwise

import pytest

from compress.data.input_spec import InputSpec
from compress.distill.augment import augment_texts

TEXTS = [(f"{letter}1 {letter}2 {letter}3 {letter}4 {letter}5",) for letter in "abcdefgh"]


def letters(text: str) -> set[str]:
    return {word[0] for word in text.split()}


def contiguous(words: list[str], source: list[str]) -> bool:
    return any(source[start : start + len(words)] == words for start in range(len(source)))


def test_a_variant_is_a_span_or_two_spans_joined() -> None:
    variants = augment_texts(TEXTS, InputSpec(), 20, 0)
    assert len(variants) == 20 * len(TEXTS)
    sources = {text[0][0]: text[0].split() for text in TEXTS}
    counts = [len(letters(text[0])) for text in variants.texts]
    assert set(counts) == {1, 2}
    for (text,), number in zip(variants.texts, range(len(variants)), strict=True):
        words, letter = text.split(), "abcdefgh"[number % 8]
        assert words[0][0] == letter
        start = [word for word in words if word[0] == letter]
        rest = [word for word in words if word[0] != letter]
        if rest:
            assert contiguous(start, sources[letter])
            assert contiguous(rest, sources[rest[0][0]])


def test_variants_depend_on_the_seed() -> None:
    draws = [augment_texts(TEXTS, InputSpec(), 2, seed).texts for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_two_texts_stay_two() -> None:
    pairs = [(first[0], second[0]) for first, second in pairwise(TEXTS)]
    variants = augment_texts(pairs, InputSpec(), 10, 0)
    assert {len(text) for text in variants.texts} == {2}
    assert all(text[0].split() and text[1].split() for text in variants.texts)
    kept = [letters(text[1]) == letters(pairs[number % len(pairs)][1]) for number, text in enumerate(variants.texts)]
    assert 0.3 < sum(kept) / len(kept) < 0.8  # the others have the second text of another example


def test_a_question_does_not_change() -> None:
    variants = augment_texts([("who ?", TEXTS[0][0])], InputSpec(target="span"), 20, 0)
    assert {text[0] for text in variants.texts} == {"who ?"}
    assert all(contiguous(text[1].split(), TEXTS[0][0].split()) for text in variants.texts)
    assert variants.labels == [[]] * 20


def test_every_word_of_a_tagged_sentence_has_a_label() -> None:
    variants = augment_texts([("a1", "a2", "a3"), ("b1",)], InputSpec(target="tags"), 10, 0)
    assert all(len(words) == len(labels) > 0 for words, labels in zip(variants.texts, variants.labels, strict=True))


@pytest.mark.parametrize("text", ["", "word", "今天天气很好我们一起去公园散步吧朋友们"])
def test_odd_texts(text: str) -> None:
    for (variant,) in augment_texts([(text,)], InputSpec(), 20, 0).texts:
        assert " " not in variant or text == "word"
        assert bool(variant) is bool(text)
        assert all(character in text or character == " " for character in variant)


def test_a_tenth_of_the_words_is_masked_and_nothing_of_a_question() -> None:
    plain = augment_texts(TEXTS, InputSpec(), 60, 0)
    masked = augment_texts(TEXTS, InputSpec(), 60, 0, "[MASK]")
    counts = [(words.split().count("[MASK]"), len(words.split())) for (words,) in masked.texts]
    assert 0.07 < sum(hidden for hidden, _ in counts) / sum(length for _, length in counts) < 0.13
    for (words,), (whole,) in zip(masked.texts, plain.texts, strict=True):  # the other words do not change
        assert all(word in ("[MASK]", original) for word, original in zip(words.split(), whole.split(), strict=True))
    questions = augment_texts([("who is it of all of them ?", TEXTS[0][0])], InputSpec(target="span"), 60, 0, "[MASK]")
    assert {text[0] for text in questions.texts} == {"who is it of all of them ?"}
    assert any("[MASK]" in text[1] for text in questions.texts)
    tagged = augment_texts([("a1", "a2", "a3"), ("b1", "b2")], InputSpec(target="tags"), 60, 0, "[MASK]")
    assert any("[MASK]" in words for words in tagged.texts)
    assert [len(tags) for tags in tagged.labels] == [len(words) for words in tagged.texts]
