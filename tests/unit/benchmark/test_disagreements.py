"""Which examples count as wrong or disputed, for every kind of task."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compress.benchmark.disagreements import list_errors
from compress.data.answers import Answer
from compress.data.examples import Examples, Labels, Predictions

NAMES = ["no", "yes"]
EMPTY: list[Answer] = []


def errors(target: str, labels: Labels, predictions: dict[str, Predictions], texts: list[Any] | None = None) -> Any:
    task: Any = SimpleNamespace(spec=SimpleNamespace(target=target), class_names=NAMES)
    return list_errors(Examples(texts or [(f"text {number}",) for number in range(len(labels))], labels), predictions, task)


def test_disputed_examples_come_first_and_right_ones_are_left_out() -> None:
    listed = errors("class", np.array([0, 0, 1]), {"a": np.array([1, 0, 1]), "b": np.array([1, 0, 0])})
    assert [(entry["row"], entry["wrong"], entry["disagree"]) for entry in listed] == [(2, ["b"], True), (0, ["a", "b"], False)]
    assert listed[0] == {
        "row": 2,
        "text": "text 2",
        "expected": "yes",
        "predictions": {"a": "yes", "b": "no"},
        "wrong": ["b"],
        "disagree": True,
    }


def test_a_class_that_the_task_lacks_is_no_class() -> None:
    (entry,) = errors("class", np.array([0]), {"a": np.array([-1])})
    assert entry["predictions"] == {"a": None}


def test_pairs_keep_their_two_texts() -> None:
    (entry,) = errors("class", np.array([0]), {"a": np.array([1])}, [("one", "two")])
    assert entry["text"] == ["one", "two"]


def test_sets_of_labels_are_right_only_as_a_whole() -> None:
    listed = errors("labels", np.array([[1.0, 1.0], [0.0, 0.0]]), {"a": np.array([[1.0, 0.0], [0.0, 0.0]])})
    assert [(entry["row"], entry["expected"], entry["predictions"]) for entry in listed] == [(0, ["no", "yes"], {"a": ["no"]})]


@pytest.mark.parametrize(("prediction", "wrong"), [(1.4, False), (1.6, True)])
def test_values_may_be_off_by_half_a_standard_deviation(prediction: float, wrong: bool) -> None:
    labels = np.array([1.0, 3.0])  # standard deviation 1
    assert bool(errors("value", labels, {"a": np.array([prediction, 3.0])})) == wrong


def test_tags_are_compared_word_by_word() -> None:
    (entry,) = errors("tags", [np.array([0, 1])], {"a": [np.array([0, -1])]}, [("Ada", "wrote")])
    assert (entry["text"], entry["expected"], entry["predictions"]) == ("Ada wrote", ["no", "yes"], {"a": ["no", None]})


def test_an_answer_is_right_if_it_equals_one_of_the_answers_but_for_articles_and_case() -> None:
    answers: list[Answer] = [(0, "The river"), (4, "Thames")]
    assert errors("span", [answers], {"a": ["river"], "b": ["thames"]})[0]["wrong"] == []  # they disagree
    assert errors("span", [answers], {"a": ["sea"]})[0]["wrong"] == ["a"]
    assert errors("span", [EMPTY], {"a": [""]}) == []


def test_mention_pairs_are_told_by_the_name_that_is_chosen() -> None:
    labels = np.array([[0] * 6 + [choice, 1] for choice in (0, 1, 2)])
    (entry,) = errors("mentions", labels, {"a": np.array([0, 2, 2])})
    assert (entry["row"], entry["expected"], entry["predictions"]) == (1, "B", {"a": "neither"})
