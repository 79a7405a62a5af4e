"""Tokenize examples.

Inputs longer than `max_length` are cut if the task predicts one label per example. For tags and spans, where every token counts,
they are split into overlapping windows. Of mention pairs the tokens around the mentions are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from compress.data.encoded import Encoded
from compress.data.examples import Examples, Labels
from compress.data.input_spec import InputSpec
from compress.data.mentions import encode_mentions
from compress.data.streamed import StreamedTexts, Texts
from compress.data.token_store import TokenWriter
from compress.data.tokenizing import cut_side, encode_batch
from compress.data.windows import encode_questions, encode_tokens, split_words

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

CHARACTERS = 8  # of a token, of most languages at most on average
MAX_LENGTH = 2**31 - 1  # more tokens than any input has: truncates nothing
Input = str | tuple[str, ...]  # one text, or two
BLOCK = 4096  # streamed texts that are tokenized at once


def encode_examples(tokenizer: Tokenizer, examples: Examples, input_spec: InputSpec, pad_id: int) -> Encoded:
    """Tokenize examples by the task's target; see `encode`, `encode_tokens`, `encode_questions` and `encode_mentions`."""
    if input_spec.target == "tags":
        return encode_tokens(tokenizer, examples.texts, examples.labels, input_spec.max_length, input_spec.stride, pad_id)
    if input_spec.target == "span":
        return encode_questions(tokenizer, examples.texts, examples.labels, input_spec.max_length, input_spec.stride, pad_id)
    if input_spec.target == "mentions":
        return encode_mentions(tokenizer, examples.texts, examples.labels, input_spec.max_length, pad_id)
    return encode(tokenizer, examples.texts, examples.labels, input_spec.max_length, pad_id)


def encode(tokenizer: Tokenizer, texts: Sequence[Texts], labels: Labels, max_length: int, pad_id: int) -> Encoded:
    """Tokenize texts (one or two per example), cut to `max_length` tokens; of a pair the longer text is cut first.

    Streamed texts are tokenized in blocks, and their tokens are kept on disk.
    """
    tokenizer = cut_texts(tokenizer, max_length)
    if isinstance(texts, StreamedTexts):
        return _encode_to_disk(tokenizer, texts, labels, max_length, pad_id)
    encodings = encode_batch(tokenizer, _inputs(texts), fast=True)
    return Encoded(
        [np.array(encoding.ids, dtype=np.int64) for encoding in encodings],
        [np.array(encoding.type_ids, dtype=np.int64) for encoding in encodings],
        labels,
        pad_id,
    )


def cut_texts(tokenizer: Tokenizer, max_length: int) -> Tokenizer:
    """Let the tokenizer cut inputs to `max_length` tokens on its side, and return it.

    A tokenizer that does so already is not changed, so that threads may share it.
    """
    truncation = {"max_length": max_length, "stride": 0, "strategy": "longest_first", "direction": cut_side(tokenizer)}
    if tokenizer.truncation != truncation:
        tokenizer.enable_truncation(**truncation)  # pyright: ignore[reportArgumentType]
    return tokenizer


def cut_on_the_left(tokenizer: Tokenizer) -> Tokenizer:
    """Note in a tokenizer, which truncates nothing so far, that `cut_texts` is to cut on the left, and return it."""
    tokenizer.enable_truncation(MAX_LENGTH, direction="left")
    return tokenizer


def ready_tokenizer(tokenizer: Tokenizer, input_spec: InputSpec) -> Tokenizer:
    """Set the tokenizer up as `encode_examples` needs it, which then does not change it, so that threads may share it."""
    if input_spec.target == "tags":
        return split_words(tokenizer)
    return tokenizer if input_spec.target in ("span", "mentions") else cut_texts(tokenizer, input_spec.max_length)


def _inputs(texts: Sequence[Texts]) -> list[Input]:
    return [text if len(text) == 2 else text[0] for text in texts]


def _encode_to_disk(tokenizer: Tokenizer, texts: StreamedTexts, labels: Labels, max_length: int, pad_id: int) -> Encoded:
    """Tokenize block by block; at most `BLOCK` texts are in memory at any time."""
    tokens = len(texts) * max_length  # at most
    ids, types = TokenWriter(np.int32, 4 * tokens), TokenWriter(np.uint8, tokens)
    rest = iter(texts)
    while block := list(islice(rest, BLOCK)):
        encodings = _encode_beginnings(tokenizer, _inputs(block), max_length)
        ids.write(encoding.ids for encoding in encodings)
        types.write(encoding.type_ids for encoding in encodings)
    return Encoded(ids.finish(), types.finish(), labels, pad_id)


def _encode_beginnings(tokenizer: Tokenizer, inputs: list[Input], max_length: int) -> list[Encoding]:
    """Tokenize inputs, of a single text only as much as its first `max_length` tokens need: the result is the same.

    A text is cut at a space. If the kept part fills `max_length` tokens and more, the rest cannot change them, as the tokenizer
    of BERT and byte-level ones treat every word alone. Otherwise the whole text is tokenized.
    """
    from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel

    if cut_side(tokenizer) == "left" or not isinstance(tokenizer.pre_tokenizer, (BertPreTokenizer, ByteLevel)):
        return encode_batch(tokenizer, inputs, fast=True)
    ends = [text.find(" ", CHARACTERS * max_length) if isinstance(text, str) else -1 for text in inputs]
    encodings = encode_batch(tokenizer, [text[:end] if end > 0 else text for text, end in zip(inputs, ends, strict=True)], fast=True)
    short = [row for row, end in enumerate(ends) if end > 0 and not encodings[row].overflowing]
    for row, encoding in zip(short, encode_batch(tokenizer, [inputs[row] for row in short], fast=True), strict=True):
        encodings[row] = encoding
    return encodings
