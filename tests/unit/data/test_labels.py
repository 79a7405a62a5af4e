"""What label columns may hold, and what they may not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from compress.core.errors import DataError
from compress.data import cells, labels, sequence_labels


def test_sets_of_labels_from_lists_and_from_text() -> None:
    expected = [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    for rows in ([["a", "c"], [], ["b"]], ["a|c", "", "b"], [np.array(["c", "a"]), None, ["b"]], [[0, 2], [], [1]]):
        assert labels.read_label_sets(rows, ["a", "b", "c"], True, "here").tolist() == expected
    with pytest.raises(DataError, match=r"row 2 of here.*'x'.*known: a, b"):
        labels.read_label_sets([["a"], ["x"]], ["a", "b"], False, "here")


def test_values_are_finite_numbers() -> None:
    np.testing.assert_allclose(labels.read_values([1, "2.5", 3.0], [], False, "here"), [1, 2.5, 3])
    for bad in (math.nan, math.inf, "", None, "three"):
        with pytest.raises(DataError, match="1 of 2 values of here are not finite numbers.* in row 2"):
            labels.read_values([1.0, bad], [], False, "here")


def test_tags_by_name_number_and_text() -> None:
    names = ["O", "B-PER"]
    for rows in ([["O", "B-PER"], ["O"]], ["O B-PER", "O"], [np.array([0, 1]), np.array([0])]):
        assert [found.tolist() for found in sequence_labels.read_tags(rows, names, True, "here")] == [[0, 1], [0]]
    with pytest.raises(DataError, match=r"row 1 of here.*'I-PER'"):
        sequence_labels.read_tags([["I-PER"]], names, False, "here")


def test_tokens_and_tags_must_agree() -> None:
    sequence_labels.check_tags([("a", "b")], [np.array([0, 1])], "here")
    with pytest.raises(DataError, match="row 2 of here has 2 tokens and 1 tags"):
        sequence_labels.check_tags([("a",), ("a", "b")], [np.array([0]), np.array([0])], "here")
    with pytest.raises(DataError, match="row 1 of here has no tokens"):
        sequence_labels.check_tags([()], [np.array([])], "here")


@pytest.mark.parametrize(
    "answers",
    [
        {"text": ["dog"], "answer_start": [4]},
        {"text": np.array(["dog"]), "answer_start": np.array([4])},
        '{"text": ["dog"], "answer_start": [4]}',
    ],
)
def test_answers_as_squad_writes_them(answers: Any) -> None:
    found = sequence_labels.read_spans([answers, {"text": [], "answer_start": []}], [], False, "here")
    assert found == [[(4, "dog")], []]
    sequence_labels.check_spans(["the dog", "x"], found, True, "here")
    with pytest.raises(DataError, match="row 2 of here has no answer"):
        sequence_labels.check_spans(["the dog", "x"], found, False, "here")
    with pytest.raises(DataError, match=r"row 1 of here: the answer 'dog' does not stand at character 4.*' og'"):
        sequence_labels.check_spans(["the  og", "x"], found, True, "here")


@pytest.mark.parametrize("answers", ["dog", 3, None, {"text": ["dog"]}, {"text": ["dog"], "answer_start": []}])
def test_what_is_no_answer(answers: Any) -> None:
    with pytest.raises(DataError, match="row 1 of here is no SQuAD answer"):
        sequence_labels.read_spans([answers], [], False, "here")


def test_words_become_tagged_characters() -> None:
    characters, marks = sequence_labels.segment_words([("中国", "人", "图书馆"), ("好",)])
    assert characters == [tuple("中国人图书馆"), ("好",)]
    assert ["".join(row) for row in marks] == ["BESBME", "S"]


def test_labels_are_found_in_natural_order() -> None:
    assert labels.distinct_labels([10, 9, "x", None, math.nan, -1]) == ["9", "10", "x"]
    assert labels.distinct_labels(labels.label_lists(["b|a", "", "c"])) == ["a", "b", "c"]


def test_lists_that_a_csv_holds_as_text() -> None:
    assert cells.tokens_of("['EU', 'rejects']") == cells.tokens_of('["EU", "rejects"]') == ("EU", "rejects")
    assert labels.read_label_sets(['["a"]', "[]"], ["a", "b"], True, "here").tolist() == [[1, 0], [0, 0]]
    with pytest.raises(DataError, match="looks like a list but is not one"):
        cells.tokens_of("[EU rejects]")


def test_vectors_of_zeros_and_ones_are_not_guessed_at() -> None:
    with pytest.raises(DataError, match="row 1 of here holds a label twice"):
        labels.read_label_sets([[0, 1, 0, 1]], ["a", "b", "c", "d"], True, "here")


@pytest.mark.parametrize(
    "answers", [{"text": "Paris", "answer_start": 10}, {"text": ["a"], "answer_start": [None]}, {"text": ["a"], "answer_start": ["x"]}]
)
def test_answers_that_are_no_lists_of_numbers(answers: Any) -> None:
    with pytest.raises(DataError, match="no SQuAD answer"):
        sequence_labels.read_spans([answers], [], False, "here")
