"""Tokenize sentences with tags, and questions with their contexts: long inputs become overlapping windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from compress.core.errors import DataError
from compress.data.answers import Answer
from compress.data.encoded import IGNORED, Encoded
from compress.data.streamed import Texts
from compress.data.tokenizing import cut_side, encode_batch

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

MIN_ROOM = 8  # tokens that a question and a part of its context need


def split_words(tokenizer: Tokenizer) -> Tokenizer:
    """Let the tokenizer take words instead of text, and return it: byte-level ones then put a space before each word.

    A tokenizer that does so already is not changed, so that threads may share it.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    pre_tokenizer = tokenizer.pre_tokenizer
    if isinstance(pre_tokenizer, ByteLevel) and not pre_tokenizer.add_prefix_space:
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True, trim_offsets=True)  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


def encode_tokens(
    tokenizer: Tokenizer, sentences: Sequence[Texts], tags: Sequence[np.ndarray], max_length: int, stride: int, pad_id: int
) -> Encoded:
    """Tokenize sentences that are split into words. A word's tag is the label of its first token, in the first window with it.

    A sentence longer than `max_length` becomes several windows that share up to `stride` tokens. They begin where the tokenizer's side
    of truncation says, as in transformers: with `left` the first window holds the end of the sentence.

    Args:
        tokenizer: of the model.
        sentences: the words of each example.
        tags: (words,) int64 of each example.
        max_length: tokens of a window, special tokens included.
        stride: tokens that two windows share.
        pad_id: id of the padding token.
    """
    tokenizer, side = split_words(tokenizer), cut_side(tokenizer)
    room = max_length - tokenizer.num_special_tokens_to_add(False)
    collected = _Windows()
    encodings = encode_batch(tokenizer, [list(words) for words in sentences], is_pretokenized=True, add_special_tokens=False)
    for number, encoding in enumerate(encodings):
        labeled: set[int] = set()
        for window in _windows(encoding, room, stride, side):
            complete = tokenizer.post_process(window, None, True)  # with special tokens
            words = np.array([-1 if word is None else word for word in complete.word_ids], dtype=np.int64)
            labels = np.full(len(words), IGNORED, dtype=np.int64)
            for position, word in enumerate(words.tolist()):
                if word >= 0 and word not in labeled:
                    labeled.add(word)
                    labels[position] = tags[number][word]
                else:
                    words[position] = -1  # a later token of the word, or labeled in an earlier window
            collected.add(complete, number, labels, words)
    return collected.encoded(pad_id, list)


def encode_questions(
    tokenizer: Tokenizer, texts: Sequence[Texts], answers: Sequence[list[Answer]], max_length: int, stride: int, pad_id: int
) -> Encoded:
    """Tokenize questions with their contexts; a long context becomes several windows that share up to `stride` tokens.

    The windows begin on the tokenizer's side, as in `encode_tokens`. A question is cut to half of the room if it does not fit with its
    context. The label of a window is the (first, last) token of the first answer, or (0, 0) if the window does not hold all
    of it (Devlin et al. 2019, section 4.3). `places` are the characters of the context that a token covers.

    Raises:
        DataError: `max_length` leaves no room for a question and a part of its context.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(True)
    if room < MIN_ROOM:
        raise DataError(f"a window of {max_length} tokens has no room for a question and its context", "raise --max-length")
    side = cut_side(tokenizer)
    contexts = encode_batch(tokenizer, [context for _, context in texts], add_special_tokens=False)
    collected = _Windows()
    for number, (text, _) in enumerate(texts):
        (question,) = encode_batch(tokenizer, [text.strip()], add_special_tokens=False)
        question.truncate(max(1, room // 2, room - len(contexts[number].ids)), direction=side)
        for window in _windows(contexts[number], room - len(question.ids), stride, side):
            offsets = np.array(window.offsets, dtype=np.int64).reshape(-1, 2)  # post-processing again would trim them twice
            complete = tokenizer.post_process(question, window, True)
            places = np.full((len(complete.ids), 2), -1, dtype=np.int64)
            places[[sequence == 1 for sequence in complete.sequence_ids]] = offsets
            collected.add(complete, number, _span_tokens(places, answers[number]), places)
    return collected.encoded(pad_id, np.array)


def _span_tokens(places: np.ndarray, answers: list[Answer]) -> np.ndarray:
    """Return the first and last token of the first answer, (2,); (0, 0) if the window does not hold all of it."""
    if not answers:
        return np.zeros(2, dtype=np.int64)
    start, text = answers[0]
    end = start + len(text)
    inside = np.flatnonzero((places[:, 0] >= 0) & (places[:, 1] > start) & (places[:, 0] < end))
    whole = len(inside) and places[inside[0], 0] <= start and places[inside[-1], 1] >= end
    return np.array([inside[0], inside[-1]] if whole else [0, 0], dtype=np.int64)


def _windows(encoding: Encoding, room: int, stride: int, side: str) -> list[Encoding]:
    """Cut an encoding into windows of `room` tokens, from the first token on, or with the side `left` from the last one back."""
    encoding.truncate(room, min(stride, room // 2), direction=side)
    return [encoding, *encoding.overflowing]


class _Windows:
    """Collects windows."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []
        self.types: list[np.ndarray] = []
        self.owners: list[int] = []
        self.labels: list[np.ndarray] = []
        self.places: list[np.ndarray] = []

    def add(self, window: Encoding, owner: int, labels: np.ndarray, places: np.ndarray) -> None:
        self.ids.append(np.array(window.ids, dtype=np.int64))
        self.types.append(np.array(window.type_ids, dtype=np.int64))
        self.owners.append(owner)
        self.labels.append(labels)
        self.places.append(places)

    def encoded(self, pad_id: int, labels_as: Callable[[list[np.ndarray]], list[np.ndarray] | np.ndarray]) -> Encoded:
        return Encoded(self.ids, self.types, labels_as(self.labels), pad_id, np.array(self.owners, dtype=np.int64), self.places)
