"""Answers of questions: SQuAD's spellings, and positions that are wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compress.core.errors import DataError
from compress.data.answers import place_answers, read_spans


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["dog"], "answer_start": [4]},
        {"text": np.array(["dog"]), "answer_start": np.array([4])},
        {"text": "dog", "answer_start": 4},
        {"text": ["dog"], "answer_start": [4.0]},
        [{"text": "dog", "answer_start": 4}],
        np.array([{"text": "dog", "answer_start": 4}], dtype=object),
        '{"text": ["dog"], "answer_start": [4]}',
        "{'text': ['dog'], 'answer_start': [4]}",
        "{'text': array(['dog'], dtype=object), 'answer_start': array([4], dtype=int32)}",
        "[{'text': 'dog', 'answer_start': 4}]",
    ],
)
def test_spellings_of_answers(answers: Any) -> None:
    assert read_spans([answers], [], False, "here") == [[(4, "dog")]]


@pytest.mark.parametrize(
    "answers", [{"text": [], "answer_start": []}, [], "[]", "", None, {"text": "", "answer_start": -1}, {"text": [""], "answer_start": [0]}]
)
def test_no_answer(answers: Any) -> None:
    rows = read_spans([answers], [], False, "here")
    assert rows == [[]]
    assert place_answers(["the dog"], rows, True, "here")[1] == [[]]
    with pytest.raises(DataError, match="row 1 of here has no answer") as caught:
        place_answers(["the dog"], rows, False, "here")
    assert "--no-answer" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "answers",
    [
        *["dog", 3, {"text": ["dog"]}, {"text": ["dog"], "answer_start": []}, {"text": "Paris"}, ["dog"]],
        *[{"text": ["a"], "answer_start": [None]}, {"text": ["a"], "answer_start": ["x"]}, {"text": ["a"], "answer_start": [1.5]}],
    ],
)
def test_what_is_no_answer(answers: Any) -> None:
    with pytest.raises(DataError, match="row 1 of here is no SQuAD answer"):
        read_spans([answers], [], False, "here")


def test_answers_a_few_characters_off_are_moved_and_others_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    context = "the dog and the cat saw the dog"
    rows = [[(4, "dog")], [(5, "dog"), (4, "dog")], [(17, "cat")], [(0, "bird")], [(4, "dog"), (9, "bird")]]
    kept, placed = place_answers([context] * 4 + ["a dog"], [*rows[:4], [(2, "dog"), (9, "bird")]], False, "places.csv")
    assert kept.tolist() == [0, 1, 2, 4]
    assert placed == [[(4, "dog")], [(4, "dog")], [(16, "cat")], [(2, "dog")]]
    said = capsys.readouterr().err
    assert "3 rows of places.csv have answers that do not stand in their context; 1 rows are skipped" in said
    assert "row 2 of places.csv" in said
    assert "1 rows of places.csv: answers moved by a few characters" in said


def test_contexts_that_do_not_belong_to_the_answers_are_refused() -> None:
    with pytest.raises(DataError, match=r"row 1 of here: the answer 'dog' does not stand at character 4 .*' og'\), nor do those of 1 more"):
        place_answers(["the  og", "x", "dog"], [[(4, "dog")], [(0, "y")], [(0, "dog")]], True, "here")
