"""Variants of texts."""

from __future__ import annotations

from itertools import pairwise

import pytest

from compress.data.input_spec import InputSpec
from compress.distill.augment import augmented

TEXTS = [(f"{letter}1 {letter}2 {letter}3 {letter}4 {letter}5",) for letter in "abcdefgh"]


def parents(text: str) -> set[str]:
    return {word[0] for word in text.split()}


def contiguous(words: list[str], source: list[str]) -> bool:
    return any(source[start : start + len(words)] == words for start in range(len(source)))


def test_a_variant_is_a_span_or_two_spans_joined() -> None:
    found = augmented(TEXTS, InputSpec(), 20, 0)
    assert len(found) == 20 * len(TEXTS)
    sources = {text[0][0]: text[0].split() for text in TEXTS}
    counts = [len(parents(text[0])) for text in found.texts]
    assert set(counts) == {1, 2}
    for (text,), number in zip(found.texts, range(len(found)), strict=True):
        words, own = text.split(), "abcdefgh"[number % 8]
        assert words[0][0] == own
        own_part = [word for word in words if word[0] == own]
        rest = [word for word in words if word[0] != own]
        if rest:
            assert contiguous(own_part, sources[own])
            assert contiguous(rest, sources[rest[0][0]])


def test_a_seed_decides() -> None:
    draws = [augmented(TEXTS, InputSpec(), 2, seed).texts for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_two_texts_stay_two() -> None:
    pairs = [(first[0], second[0]) for first, second in pairwise(TEXTS)]
    found = augmented(pairs, InputSpec(), 10, 0)
    assert {len(text) for text in found.texts} == {2}
    assert all(text[0].split() and text[1].split() for text in found.texts)
    kept = [parents(text[1]) == parents(pairs[number % len(pairs)][1]) for number, text in enumerate(found.texts)]
    assert 0.3 < sum(kept) / len(kept) < 0.8  # the others have the second text of another example


def test_a_question_is_not_touched() -> None:
    found = augmented([("who ?", TEXTS[0][0])], InputSpec(target="span"), 20, 0)
    assert {text[0] for text in found.texts} == {"who ?"}
    assert all(contiguous(text[1].split(), TEXTS[0][0].split()) for text in found.texts)
    assert found.labels == [[]] * 20


def test_tags_have_a_place_for_every_word() -> None:
    found = augmented([("a1", "a2", "a3"), ("b1",)], InputSpec(target="tags"), 10, 0)
    assert all(len(words) == len(labels) > 0 for words, labels in zip(found.texts, found.labels, strict=True))


@pytest.mark.parametrize("text", ["", "word", "今天天气很好我们一起去公园散步吧朋友们"])
def test_odd_texts(text: str) -> None:
    for (variant,) in augmented([(text,)], InputSpec(), 20, 0).texts:
        assert " " not in variant or text == "word"
        assert bool(variant) is bool(text)
        assert all(character in text or character == " " for character in variant)


def test_a_tenth_of_the_words_is_masked_and_nothing_of_a_question() -> None:
    plain = augmented(TEXTS, InputSpec(), 60, 0)
    masked = augmented(TEXTS, InputSpec(), 60, 0, "[MASK]")
    counts = [(words.split().count("[MASK]"), len(words.split())) for (words,) in masked.texts]
    assert 0.07 < sum(hidden for hidden, _ in counts) / sum(length for _, length in counts) < 0.13
    for (words,), (whole,) in zip(masked.texts, plain.texts, strict=True):  # the rest is as it would be
        assert all(word in ("[MASK]", own) for word, own in zip(words.split(), whole.split(), strict=True))
    asked = augmented([("who is it of all of them ?", TEXTS[0][0])], InputSpec(target="span"), 60, 0, "[MASK]")
    assert {text[0] for text in asked.texts} == {"who is it of all of them ?"}
    assert any("[MASK]" in text[1] for text in asked.texts)
    tagged = augmented([("a1", "a2", "a3"), ("b1", "b2")], InputSpec(target="tags"), 60, 0, "[MASK]")
    assert any("[MASK]" in words for words in tagged.texts)
    assert [len(tags) for tags in tagged.labels] == [len(words) for words in tagged.texts]
