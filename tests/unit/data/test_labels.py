"""What label columns may hold, and what they may not."""

from __future__ import annotations

import math
import re
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


def test_words_become_tagged_characters() -> None:
    characters, marks = sequence_labels.segment_words([("中国", "人", "图书馆"), ("好",)])
    assert characters == [tuple("中国人图书馆"), ("好",)]
    assert ["".join(row) for row in marks] == ["BESBME", "S"]


def test_labels_are_found_in_natural_order() -> None:
    assert labels.distinct_labels([10, 9, "x", None, math.nan, -1]) == ["9", "10", "x"]
    assert labels.distinct_labels(cells.as_lists(["b|a", "", "c"], "|")) == ["a", "b", "c"]


def test_lists_that_a_csv_holds_as_text() -> None:
    texts = ["['EU', 'rejects']", '["EU", "rejects"]', "['EU' 'rejects']", "['EU'\n 'rejects']", "array(['EU', 'rejects'], dtype=object)"]
    assert cells.tokens_of(texts) == [("EU", "rejects")] * len(texts)
    assert labels.read_label_sets(['["a"]', "[]"], ["a", "b"], True, "here").tolist() == [[1, 0], [0, 0]]
    with pytest.raises(DataError, match="looks like a list but is not one"):
        cells.tokens_of(["[EU rejects]"])


@pytest.mark.parametrize(
    "bad", ["['a' 'b', 'c']", "['a''b']", "['a', 'b'", "[a, b]", "[1 + 2]", "['a' ... 'z']", "['a'] * 3", "(1, 2)", "[['a']]"]
)
def test_a_wrong_cell_among_lists_is_named(bad: str) -> None:
    with pytest.raises(DataError, match="row 2 of here"):
        cells.as_lists(["['a', 'b']", bad, "['c']"], None, "here")


def test_text_that_only_looks_like_a_list_stays_text() -> None:
    assert cells.tokens_of(["he laughs", "[ applause ]", "[1]", "so", "on"])[1:3] == [("[", "applause", "]"), ("[1]",)]


@pytest.mark.parametrize(
    ("vectors", "names"),
    [
        ([[0, 1], [1, 0], [0, 0], [1, 1]], ["a", "b"]),
        ([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]], ["a", "b", "c"]),
        (["[0, 1, 1]", "[0 0 1]", "[1. 0. 0.]"], ["a", "b", "c"]),
        ([np.array([True, False]), np.array([False, False])], ["a", "b"]),
    ],
)
def test_vectors_of_zeros_and_ones(vectors: list[Any], names: list[str]) -> None:
    found = labels.read_label_sets(vectors, names, False, "here")
    expected = [[float(digit) for digit in re.findall(r"(?<!\.)[01]", str(row))] for row in vectors]
    assert found.tolist() == ([[1, 0], [0, 0]] if isinstance(vectors[0], np.ndarray) else expected)
    assert labels.discover_labels(vectors, "labels", "here", True) == [str(number) for number in range(len(names))]


def test_one_hot_vectors_are_classes() -> None:
    assert labels.read_classes([[0, 1], [1, 0]], ["a", "b"], False, "here").tolist() == [1, 0]
    with pytest.raises(DataError, match="row 2 of here has 2 ones"):
        labels.read_classes([[0, 1], [1, 1]], ["a", "b"], False, "here")
    with pytest.raises(DataError, match="have 3 places, and there are 2 classes"):
        labels.read_classes([[0, 1, 0]], ["a", "b"], False, "here")


def test_lists_of_class_numbers_are_no_vectors() -> None:
    assert labels.read_label_sets([[0, 1], [0, 1]], ["a", "b", "c"], True, "here").tolist() == [[1, 1, 0]] * 2


def test_blanks_at_the_ends_of_labels_are_ignored_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    column = ["neg", "neg ", " pos"]
    names = labels.discover_labels(column, "class", "blank.csv", True)
    assert names == ["neg", "pos"]
    assert labels.read_classes(column, names, False, "blank.csv").tolist() == [0, 0, 1]
    assert capsys.readouterr().err.count("2 labels of blank.csv have blanks") == 1


def test_numbers_with_a_point_are_integers_in_text_too() -> None:
    assert labels.discover_labels(["0.0", "1.0", "10.0"], "class", "here", True) == ["0", "1", "10"]
    assert labels.read_classes(["0.0", "1.0"], ["no", "yes"], True, "here").tolist() == [0, 1]
    assert labels.discover_labels(["1.0", "1.5"], "class", "here", True) == ["1.0", "1.5"]
    assert labels.read_classes(["1.0", "2.0"], ["1.0", "2.0"], False, "here").tolist() == [0, 1]


def test_classes_with_odd_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert labels.discover_labels(["None", "low", "high"], "class", "odd.csv", True) == ["None", "high", "low"]
    assert "'None' is taken for the name of a class" in capsys.readouterr().err
    assert labels.discover_labels(["-1", "1"], "class", "here", True) == ["1", "-1"]
    assert labels.read_classes(["-1", "0"], ["0", "-1"], True, "here").tolist() == [1, 0]
    assert labels.read_classes([-1, 1], ["-1", "1"], True, "here").tolist() == [0, 1]


@pytest.mark.parametrize("column", [[-1, 0, 1], ["-1", "0", "1"], [-1.0, 0.0, 1.0]])
def test_rows_without_a_label_are_refused_with_their_value(column: list[object]) -> None:
    names = labels.discover_labels(column, "class", "here", True)
    assert names == ["0", "1"]
    with pytest.raises(DataError, match=f"1 of 3 labels of here are unusable, the first is {column[0]!r} in row 1"):
        labels.read_classes(column, names, False, "here")
    for part in (column[:1], [column[0], column[2]] if not isinstance(column[0], str) else column[:1]):
        with pytest.raises(DataError, match=f"1 rows have {column[0]!r}, which means no label"):
            labels.discover_labels(part, "class", "here", True)


def test_names_in_another_case_and_label_n(capsys: pytest.CaptureFixture[str]) -> None:
    assert labels.read_classes(["Neg", "POS"], ["neg", "pos"], True, "case.csv").tolist() == [0, 1]
    assert "without regard to case" in capsys.readouterr().err
    assert labels.read_classes(["LABEL_1", "LABEL_0"], ["neg", "pos"], True, "here").tolist() == [1, 0]
    with pytest.raises(DataError, match="unusable"):
        labels.read_classes(["NEG"], ["neg", "Neg"], False, "here")


@pytest.mark.parametrize("mark", [",", ", ", ";", "#", "/"])
def test_the_right_separator_is_proposed(mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    column = [mark.join(row) for row in (["toxic", "insult"], ["toxic"], [], ["insult", "threat"])]
    labels.discover_labels(column, "labels", f"file{mark}", True)
    assert f"give --separator '{mark.strip()}'" in capsys.readouterr().err
    assert labels.discover_labels(column, "labels", "here", True, mark.strip()) == ["insult", "threat", "toxic"]
    with pytest.raises(DataError, match="is no label") as caught:
        labels.read_label_sets(column, ["insult", "threat", "toxic"], False, "here")
    assert mark.strip() in (caught.value.hint or "")


def test_no_separator_is_proposed_for_names_with_marks(capsys: pytest.CaptureFixture[str]) -> None:
    labels.discover_labels(["sci/tech", "rock & roll", "a b"], "labels", "names.csv", True)
    labels.discover_labels(["a|b, c", "c"], "labels", "names.csv", True)
    assert "separator" not in capsys.readouterr().err


def test_texts_as_labels_are_refused() -> None:
    """As with --text and --label swapped."""
    column = [f"a long sentence with number {number}" for number in range(200)]
    with pytest.raises(
        DataError, match=r"column 's' has 200 different labels in 200 rows: is --label right\? \(a long sentence with…, "
    ) as caught:
        labels.discover_labels(column, "class", "column 's'", True)
    assert len(caught.value.message) < 250
    assert len(labels.discover_labels(column[:20], "class", "few rows", True)) == 20
    assert len(labels.discover_labels(column, "class", "a small test split", False)) == 200
