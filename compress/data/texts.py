"""Examples from texts alone, without a data set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from compress.core.errors import DataError
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec
from compress.data.mentions import MentionPair, mention_examples
from compress.data.streamed import Texts

_CJK = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORDS = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])\w)+(?:['’](?:(?![{_CJK}])\w)+)?|[^\w\s]")


def examples_from_texts(texts: Sequence[str | Texts | MentionPair], input_spec: InputSpec) -> Examples:
    """Return unlabeled examples (labels are zeros). For tags, text is split into words, punctuation and CJK characters.

    Raises:
        DataError: no text; a question without its context; a mention pair that is none, or one for a model that reads texts.
    """
    if input_spec.target == "mentions":
        return mention_examples(texts)
    plain = [text for text in texts if not isinstance(text, Mapping)]
    if len(plain) < len(texts):
        raise DataError("this model reads texts, and was given a mapping", "mention pairs are for models of the kind coreference")
    _check_texts(plain)
    inputs: list[Texts] = [text if isinstance(text, tuple) else (text,) for text in plain]
    if input_spec.target == "tags":
        words = [text if isinstance(text, tuple) else tuple(_WORDS.findall(text)) for text in plain]
        return Examples(words, [np.zeros(len(sentence), dtype=np.int64) for sentence in words])
    if input_spec.target == "span":
        if any(len(text) != 2 for text in inputs):
            raise DataError("this model answers questions about a context, and was given a text alone", "give a question and its context")
        return Examples(inputs, [[] for _ in inputs])
    return Examples(inputs, np.zeros(len(inputs), dtype=np.int64))


def _check_texts(texts: Sequence[object]) -> None:
    """Refuse what is neither a text nor a tuple of texts, by its position from 1."""
    for number, text in enumerate(texts, start=1):
        for part in text if isinstance(text, tuple) else (text,):
            if not isinstance(part, str):
                raise DataError(
                    f"input {number} is not a text but of type {type(part).__name__}",
                    "give a string, or a tuple of two for a pair of texts",
                )
