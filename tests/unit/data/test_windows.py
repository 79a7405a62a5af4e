"""Long inputs in overlapping windows: the same as those of transformers, whatever the side on which the tokenizer cuts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.windows import encode_questions, encode_tokens
from compress.models.tokenizer import load_tokenizer
from tests import tiny

WORDS = [*tiny.sentences(1, seed=3)[0][0].split(), "zebra", "crossings", *tiny.sentences(3, seed=4)[1][0].split()]
LENGTH, STRIDE = 20, 4
QUESTION, CONTEXT = "the dog is there", " ".join(WORDS)
SIDES = ["right", "left"]


@pytest.fixture(params=["bert", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A tokenizer's folder."""
    tiny.write_tokenizer(tmp_path, request.param)
    config = {"model_type": request.param, "vocab_size": len(tiny.vocabulary(request.param)), "type_vocab_size": 2}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return tmp_path


def cut_on(folder: Path, side: str) -> Any:
    """Let a tokenizer cut on a side; returns it as transformers opens it."""
    import transformers

    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"truncation_side": side}), encoding="utf-8")
    return transformers.AutoTokenizer.from_pretrained(str(folder))


def windows_of(opened: Any, *texts: Any, **options: Any) -> Any:
    return opened(*texts, max_length=LENGTH, stride=STRIDE, return_overflowing_tokens=True, **options)


@pytest.mark.parametrize("side", SIDES)
def test_windows_of_words_are_those_of_transformers(folder: Path, side: str) -> None:
    expected = windows_of(cut_on(folder, side), WORDS, is_split_into_words=True, truncation=True)
    data = encode_tokens(load_tokenizer(folder), [WORDS], [np.arange(len(WORDS))], LENGTH, STRIDE, 0)
    assert [row.tolist() for row in data.input_ids] == expected["input_ids"]
    assert len(data.input_ids) > 2
    labels = np.concatenate(data.labels)
    assert sorted(labels[labels >= 0].tolist()) == list(range(len(WORDS)))  # every word once
    first = [int(label) for label in data.labels[0] if label >= 0]
    assert (0 in first) == (side == "right")
    assert (len(WORDS) - 1 in first) == (side == "left")


@pytest.mark.parametrize("side", SIDES)
def test_windows_of_a_context_are_those_of_transformers(folder: Path, side: str) -> None:
    opened = cut_on(folder, side)
    expected = windows_of(opened, QUESTION, CONTEXT, truncation="only_second", return_offsets_mapping=True)
    answer = (CONTEXT.index("zebra"), "zebra")
    data = encode_questions(load_tokenizer(folder), [(QUESTION, CONTEXT)], [[answer]], LENGTH, STRIDE, 0)
    assert [row.tolist() for row in data.input_ids] == expected["input_ids"]
    assert data.places is not None
    for number, places in enumerate(data.places):
        own = [tuple(place) for place in places.tolist() if place[0] >= 0]
        second = [index for index, sequence in enumerate(expected.sequence_ids(number)) if sequence == 1]
        assert own == [expected["offset_mapping"][number][index] for index in second]
    begun = [(int(first), int(last)) for first, last in data.labels if first]
    assert begun
    for window, (first, last) in zip([row for row, (start, _) in zip(data.places, data.labels, strict=True) if start], begun, strict=True):
        assert CONTEXT[window[first][0] : window[last][1]] == "zebra"
