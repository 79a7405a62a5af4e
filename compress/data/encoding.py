"""From texts to padded batches: tokenized once, grouped by length, padded only to the longest of the batch.

An input beyond `max_length` is cut where one class is asked for; where every token or a span of it is asked for, it is
spread over windows that overlap, so that no token of it is lost. `Encoded` holds windows: for most tasks one an example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.core.errors import DataError
from compress.data.encoded import IGNORED, Encoded
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

MIN_ROOM = 8  # tokens that a question and a piece of its context need


def split_words(tokenizer: Tokenizer) -> Tokenizer:
    """Return the tokenizer ready for words that are split already: byte-level ones then expect a blank before each.

    One that is ready is left alone, so that threads may share it.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    found = tokenizer.pre_tokenizer
    if isinstance(found, ByteLevel) and not found.add_prefix_space:
        tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=True, trim_offsets=True)  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


def cut_texts(tokenizer: Tokenizer, max_length: int) -> Tokenizer:
    """Return the tokenizer ready to cut inputs to `max_length` tokens, of two texts the longer one.

    One that is ready is left alone, so that threads may share it.
    """
    wanted = {"max_length": max_length, "stride": 0, "strategy": "longest_first", "direction": "right"}
    if tokenizer.truncation != wanted:
        tokenizer.enable_truncation(**wanted)  # pyright: ignore[reportArgumentType]
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[tuple[str, ...]], labels: Any, max_length: int, pad_id: int) -> Encoded:
    """Tokenize texts (one or two each), cut to `max_length` tokens from the longer text."""
    tokenizer = cut_texts(tokenizer, max_length)
    inputs = [text if len(text) == 2 else text[0] for text in texts]
    encodings = tokenizer.encode_batch_fast(inputs)
    return Encoded(
        [np.array(encoding.ids, dtype=np.int64) for encoding in encodings],
        [np.array(encoding.type_ids, dtype=np.int64) for encoding in encodings],
        labels,
        pad_id,
    )


def encode_tokens(
    tokenizer: Tokenizer, sentences: list[tuple[str, ...]], tags: Sequence[Any], max_length: int, stride: int, pad_id: int
) -> Encoded:
    """Tokenize sentences that are words already; a word's tag stands at its first piece, in the first window that has it.

    A sentence beyond `max_length` takes several windows that share up to `stride` tokens.

    Args:
        tokenizer: of the model.
        sentences: the words of each example.
        tags: (words,) int64 of each example.
        max_length: of a window, specials included.
        stride: tokens that two windows share.
        pad_id: the token that pads.
    """
    tokenizer = split_words(tokenizer)
    room = max_length - tokenizer.num_special_tokens_to_add(False)
    collected = _Windows()
    encodings = tokenizer.encode_batch([list(words) for words in sentences], is_pretokenized=True, add_special_tokens=False)
    for number, encoding in enumerate(encodings):
        answered: set[int] = set()
        for window in _windows(encoding, room, stride):
            piece = tokenizer.post_process(window, None, True)
            words = np.array([-1 if word is None else word for word in piece.word_ids], dtype=np.int64)
            labels = np.full(len(words), IGNORED, dtype=np.int64)
            for position, word in enumerate(words.tolist()):
                if word >= 0 and word not in answered:
                    answered.add(word)
                    labels[position] = tags[number][word]
                else:
                    words[position] = -1  # a later piece, or answered by the window before
            collected.add(piece, number, labels, words)
    return collected.encoded(pad_id, list)


def encode_questions(
    tokenizer: Tokenizer, texts: list[tuple[str, ...]], answers: Sequence[Any], max_length: int, stride: int, pad_id: int
) -> Encoded:
    """Tokenize questions with their contexts; a long context takes several windows that share up to `stride` tokens.

    The label of a window is the (first, last) token of the first answer, or (0, 0) where the window does not hold it
    (Devlin et al. 2019, section 4.3). Places are the characters of the context that a token stands for.
    """
    room = max_length - tokenizer.num_special_tokens_to_add(True)
    if room < MIN_ROOM:
        raise DataError(f"a window of {max_length} tokens has no room for a question and its context", "raise --max-length")
    contexts = tokenizer.encode_batch([context for _, context in texts], add_special_tokens=False)
    collected = _Windows()
    for number, (question, _) in enumerate(texts):
        asked = tokenizer.encode(question.strip(), add_special_tokens=False)
        asked.truncate(max(1, room // 2))
        for window in _windows(contexts[number], room - len(asked.ids), stride):
            offsets = np.array(window.offsets, dtype=np.int64).reshape(-1, 2)  # a second post-processing would trim them twice
            piece = tokenizer.post_process(asked, window, True)
            places = np.full((len(piece.ids), 2), -1, dtype=np.int64)
            places[[sequence == 1 for sequence in piece.sequence_ids]] = offsets
            collected.add(piece, number, _span_tokens(places, answers[number]), places)
    return collected.encoded(pad_id, np.array)


def _span_tokens(places: np.ndarray, answers: list[tuple[int, str]]) -> np.ndarray:
    """Return the first and last token of the first answer, (2,); (0, 0) where the window does not hold all of it."""
    if not answers:
        return np.zeros(2, dtype=np.int64)
    start, text = answers[0]
    end = start + len(text)
    inside = np.flatnonzero((places[:, 0] >= 0) & (places[:, 1] > start) & (places[:, 0] < end))
    whole = len(inside) and places[inside[0], 0] <= start and places[inside[-1], 1] >= end
    return np.array([inside[0], inside[-1]] if whole else [0, 0], dtype=np.int64)


def _windows(encoding: Encoding, room: int, stride: int) -> list[Encoding]:
    encoding.truncate(room, min(stride, room // 2))
    return [encoding, *encoding.overflowing]


class _Windows:
    """Collects windows as they are made."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []
        self.types: list[np.ndarray] = []
        self.owners: list[int] = []
        self.labels: list[np.ndarray] = []
        self.places: list[np.ndarray] = []

    def add(self, piece: Encoding, owner: int, labels: np.ndarray, places: np.ndarray) -> None:
        self.ids.append(np.array(piece.ids, dtype=np.int64))
        self.types.append(np.array(piece.type_ids, dtype=np.int64))
        self.owners.append(owner)
        self.labels.append(labels)
        self.places.append(places)

    def encoded(self, pad_id: int, labels_as: Any) -> Encoded:
        return Encoded(self.ids, self.types, labels_as(self.labels), pad_id, np.array(self.owners, dtype=np.int64), self.places)


def encode_examples(tokenizer: Tokenizer, examples: Examples, input_spec: InputSpec, pad_id: int) -> Encoded:
    """Tokenize examples as their task asks; see `encode`, `encode_tokens`, `encode_questions`."""
    if input_spec.target == "tags":
        return encode_tokens(tokenizer, examples.texts, examples.labels, input_spec.max_length, input_spec.stride, pad_id)
    if input_spec.target == "span":
        return encode_questions(tokenizer, examples.texts, examples.labels, input_spec.max_length, input_spec.stride, pad_id)
    return encode(tokenizer, examples.texts, examples.labels, input_spec.max_length, pad_id)


def ready_tokenizer(tokenizer: Tokenizer, input_spec: InputSpec) -> Tokenizer:
    """Return the tokenizer as `encode_examples` uses it; it is not changed any more after that, so that threads may share it."""
    if input_spec.target == "tags":
        return split_words(tokenizer)
    return tokenizer if input_spec.target == "span" else cut_texts(tokenizer, input_spec.max_length)
