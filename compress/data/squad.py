"""Compare answers as SQuAD's evaluation script does (Rajpurkar et al. 2016)."""

from __future__ import annotations

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Return the answer in lower case, without punctuation, articles and repeated spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def same_answer(expected: str, predicted: str) -> float:
    """Return 1.0 if two answers are equal after normalisation, else 0.0."""
    return float(normalize_answer(expected) == normalize_answer(predicted))


def answer_f1(expected: str, predicted: str) -> float:
    """Return the F1 of the words that two answers share, counted with multiplicity; an empty answer equals only an empty one."""
    words, predicted_words = normalize_answer(expected).split(), normalize_answer(predicted).split()
    if not words or not predicted_words:
        return float(words == predicted_words)
    shared = sum((Counter(words) & Counter(predicted_words)).values())
    return 2 * shared / (len(words) + len(predicted_words))
