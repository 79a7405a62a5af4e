"""From outputs to answers, by hand and against brute force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core.errors import DataError
from compress.data.encoded import IGNORED, Encoded
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.texts import examples_from_texts
from compress.data.windows import encode_questions, encode_tokens
from compress.inference.decoding import best_answer, best_spans, decode_predictions, describe_outputs
from compress.models.tokenizer import load_tokenizer
from tests import tiny

Maker = Callable[..., Path]
RNG = np.random.default_rng(0)
CONTEXT = "the old dog ate bread and soup , and the cat had tea with rice and more bread in the small red house ."


@pytest.fixture
def tokenizer(tmp_path: Path, family: str) -> Any:
    """The family's tiny tokenizer."""
    tiny.write_tokenizer(tmp_path, family)
    return load_tokenizer(tmp_path)


@pytest.mark.parametrize("max_length", [8, 12, 64])
def test_every_word_is_tagged_once_however_short_the_windows(tokenizer: Any, max_length: int) -> None:
    """Tags that are encoded as labels are decoded to the same tags."""
    sentences = [tuple(CONTEXT.split()), ("dog",), ("zzzz", "tea", "qqq")]
    tags = [RNG.integers(0, 5, len(words)) for words in sentences]
    data = encode_tokens(tokenizer, sentences, tags, max_length, stride=3, pad_id=0)
    assert max(data.lengths) <= max_length
    assert (len(data) == 3) == (max_length == 64)
    logits = np.zeros((int(data.starts[-1]), 5), dtype=np.float32)
    flat = np.concatenate(data.labels)
    logits[np.arange(len(flat)), np.where(flat == IGNORED, 0, flat)] = 1.0
    predictions = decode_predictions(logits, data, Examples(sentences, tags), InputSpec("tags"), np.arange(5))
    for true, predicted in zip(tags, predictions, strict=True):
        np.testing.assert_array_equal(true, predicted)
    assert sum((labels != IGNORED).sum() for labels in data.labels) == sum(map(len, tags))


@pytest.mark.parametrize("max_length", [16, 24, 64])
def test_a_span_is_found_in_its_window(tokenizer: Any, max_length: int) -> None:
    texts = [("what had the cat ?", CONTEXT), ("who ate ?", CONTEXT)]
    answers = [[(CONTEXT.index("tea"), "tea with rice")], [(CONTEXT.index("the old"), "the old dog")]]
    data = encode_questions(tokenizer, texts, answers, max_length, stride=6, pad_id=0)
    assert max(data.lengths) <= max_length
    logits = np.full((int(data.starts[-1]), 2), -5.0, dtype=np.float32)
    holding = 0
    for number, (start, end) in enumerate(data.labels.tolist()):
        if end:
            holding += 1
            logits[data.starts[number] + start, 0] = logits[data.starts[number] + end, 1] = 5.0
    assert holding >= 2
    predictions = decode_predictions(logits, data, Examples(texts, answers), InputSpec("span"), np.arange(2))
    assert predictions == ["tea with rice", "the old dog"]


def test_the_best_span_equals_brute_force(tokenizer: Any) -> None:
    texts = [("what ?", CONTEXT)]
    input_spec = InputSpec("span", max_answer=4)
    data = encode_questions(tokenizer, texts, [[]], 64, 0, 0)
    places = data.places[0] if data.places else np.empty((0, 2))
    tokens = [i for i in range(len(places)) if places[i, 0] >= 0]
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(size=(len(places), 2))
        pairs = [(logits[i, 0] + logits[j, 1], i, j) for i in tokens for j in tokens if 0 <= j - i < 4]
        score, first, last = max(pairs)
        best = best_spans(logits, data, Examples(texts, [[]]), input_spec, count=100)[0][0]
        assert (best.start, best.end) == (places[first, 0], places[last, 1])
        assert best.score == pytest.approx(score)
        assert best.text == CONTEXT[best.start : best.end]


def test_no_answer_if_its_score_leads_by_more_than_the_threshold(tokenizer: Any) -> None:
    texts = [("what ?", CONTEXT)]
    data = encode_questions(tokenizer, texts, [[]], 64, 0, 0)
    logits = np.zeros((int(data.starts[-1]), 2))
    logits[0] = 1.0  # the first token: its two ends sum to 2
    for threshold, empty in ((1.9, True), (2.1, False)):
        input_spec = InputSpec("span", no_answer=True, null_threshold=threshold)
        best = best_answer(best_spans(logits, data, Examples(texts, [[]]), input_spec)[0], input_spec)
        assert (best.text == "") == empty
    never = InputSpec("span", no_answer=False)
    assert best_answer(best_spans(logits, data, Examples(texts, [[]]), never)[0], never).text


def test_labels_and_values_by_hand() -> None:
    data = Encoded([], [], np.zeros(0), 0)
    outputs = np.array([[2.0, -1.0, 0.5], [-1.0, -1.0, -1.0]], dtype=np.float32)
    examples = Examples([("a",), ("b",)], np.zeros(2))
    predictions = decode_predictions(outputs, data, examples, InputSpec("labels"), np.array([2, 0, 1]))
    assert predictions.tolist() == [[0, 1, 1], [0, 0, 0]]  # in the task's order
    described = describe_outputs(outputs, data, examples, InputSpec("labels"), ["x", "y", "z"])
    assert [[entry.label for entry in row] for row in described] == [["x", "z"], []]  # pyright: ignore
    assert decode_predictions(outputs[:, :1], data, examples, InputSpec("value"), np.arange(1)).tolist() == [2.0, -1.0]


def test_texts_are_split_for_tagging() -> None:
    examples = examples_from_texts(["The dog's tea, 2.5 cups!", ("split", "already")], InputSpec("tags"))
    assert examples.texts == [("The", "dog's", "tea", ",", "2", ".", "5", "cups", "!"), ("split", "already")]
    assert examples_from_texts(["我爱 tea"], InputSpec("tags")).texts == [("我", "爱", "tea")]


def test_a_question_needs_its_context() -> None:
    with pytest.raises(DataError, match="a context"):
        examples_from_texts(["who ?"], InputSpec("span"))


def roberta_tokenizer() -> Any:
    """A byte-level tokenizer with RoBERTa's own post-processing, which trims the blank that words begin with."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    names = ["<s>", "<pad>", "</s>", *sorted(alphabet), "Ġd", "Ġdo", "Ġdog"]
    tokenizer = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, [("Ġ", "d"), ("Ġd", "o"), ("Ġdo", "g")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False)
    return tokenizer


def test_byte_level_words_keep_their_first_letter() -> None:
    texts, answers = [("who ?", "the dog ran")], [[(4, "dog")]]
    data = encode_questions(roberta_tokenizer(), texts, answers, 40, 4, 1)
    first, last = data.labels[0]
    places = data.places[0] if data.places else np.empty((0, 2))
    assert "the dog ran"[places[first, 0] : places[last, 1]].strip() == "dog"
    assert first > 0


def test_byte_level_words_are_tagged_with_their_blank() -> None:
    data = encode_tokens(roberta_tokenizer(), [("dog", "dog")], [np.array([1, 2])], 20, 2, 1)
    assert data.input_ids[0].tolist()[1:-1] == [data.input_ids[0][1]] * 2  # each is the one token that a word after a blank is
    assert data.labels[0].tolist() == [IGNORED, 1, 2, IGNORED]


def test_a_word_that_the_tokenizer_drops_has_no_tag(tmp_path: Path) -> None:
    tiny.write_tokenizer(tmp_path)
    words = [("dog", "\u200b", "tea")]
    data = encode_tokens(load_tokenizer(tmp_path), words, [np.zeros(3, dtype=int)], 20, 2, 0)
    outputs = np.random.default_rng(0).normal(size=(int(data.starts[-1]), 2))
    described: Any = describe_outputs(outputs, data, Examples(words, [np.zeros(3, dtype=int)]), InputSpec("tags"), ["x", "y"])
    assert [entry.word for entry in described[0]] == ["dog", "\u200b", "tea"]
    assert (described[0][1].label, described[0][1].score) == ("", 0.0)
    assert all(entry.label in ("x", "y") for entry in described[0][::2])


def test_a_window_without_room_for_a_context(tokenizer: Any) -> None:
    with pytest.raises(DataError, match="no room for a question"):
        encode_questions(tokenizer, [("what ?", CONTEXT)], [[]], 6, 0, 0)


def test_chinese_next_to_latin_letters_is_split() -> None:
    assert examples_from_texts(["2019年中国GDP增长"], InputSpec("tags")).texts == [("2019", "年", "中", "国", "GDP", "增", "长")]
