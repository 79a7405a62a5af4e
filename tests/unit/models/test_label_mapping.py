"""A model's classes and a task's classes, matched by name."""

from __future__ import annotations

import datasets
import numpy as np
import pytest

from compress.core.errors import DataError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.models.label_mapping import NO_CLASS, head_for_task, map_label_names, map_labels, predicted_classes


def test_classes_are_matched_by_name() -> None:
    classes = map_label_names(["b", "x", "a"], ["a", "b"], "model")
    assert classes.tolist() == [1, NO_CLASS, 0]
    logits = np.array([[9.0, 1.0, 2.0], [0.0, 9.0, 8.0], [1.0, 2.0, 3.0]])
    assert predicted_classes(logits, classes).tolist() == [1, NO_CLASS, 0]


def test_numbered_classes_take_the_tasks_order_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert map_label_names(["LABEL_0", "LABEL_1"], ["no", "yes"], "some-model").tolist() == [0, 1]
    assert "some-model does not name its classes" in capsys.readouterr().err


def test_named_classes_give_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    map_label_names(["no", "yes"], ["yes", "no"], "model")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("model", [["a", "c"], ["LABEL_0", "LABEL_1", "LABEL_2"], ["A", "a", "b "]])
def test_a_label_that_the_model_does_not_know(model: list[str]) -> None:
    with pytest.raises(DataError, match="does not know the label") as caught:
        map_label_names(model, ["a", "b"], "model")
    assert caught.value.exit_code == 4
    assert ", ".join(model) in caught.value.message


@pytest.mark.parametrize(
    ("model", "task", "expected"),
    [
        (["NEGATIVE", "POSITIVE"], ["negative", "positive"], [0, 1]),
        (["sports", "tech"], ["tech", "Sports"], [1, 0]),
        (["negative", "positive"], ["0", "1"], [0, 1]),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["0", "2"], [0, NO_CLASS, 1]),
        (["no", "maybe", "yes"], ["LABEL_2", "LABEL_0"], [1, NO_CLASS, 0]),
        (["1", "2", "3"], ["1", "3"], [0, NO_CLASS, 1]),  # names
        (["LABEL_0", "LABEL_1"], ["1", "2"], [0, 1]),  # no positions: the task's order
    ],
)
def test_labels_are_matched_by_name_without_case_and_by_number(model: list[str], task: list[str], expected: list[int]) -> None:
    assert map_label_names(model, task, "model").tolist() == expected


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (["Sports", "sports", "tech"], ["SPORTS", "tech"]),  # two names without case
        (["sports", "tech"], ["Sports", "sports"]),
        (["1", "2"], ["0", "1"]),  # a name or a position?
        (["no", "yes"], ["0", "2"]),
        (["no", "yes"], ["0", "yes"]),
    ],
)
def test_what_is_ambiguous_is_refused(model: list[str], task: list[str]) -> None:
    with pytest.raises(DataError, match="does not know the label"):
        map_label_names(model, task, "model")


def test_a_match_by_position_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        map_label_names(["bad", "good"], ["0", "1"], "a-named-model")
    assert capsys.readouterr().err.count("by position: 0 is bad, 1 is good") == 1


CONFIG = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}


def task_of(labels: list[object]) -> Task:
    data = datasets.Dataset.from_dict({"text": ["x"] * len(labels), "label": labels})
    return Task(resolve({"text": ["text"], "data": {"test": data}}))


def test_classes_that_the_task_lacks_have_numbers_after_its_own() -> None:
    task = task_of(["c", "a"])
    assert map_labels(CONFIG, task, "model").tolist() == [0, 2, 1]
    assert task.class_names == ["a", "c", "b"]
    other = {**CONFIG, "id2label": {"0": "c", "1": "d", "2": "a", "3": "b"}}
    assert map_labels(other, task, "other").tolist() == [1, 3, 0, 2]
    assert task.class_names == ["a", "c", "b", "d"]
    assert task.label_names == ["a", "c"]


def test_numbers_get_the_names_that_the_model_knows() -> None:
    task = task_of([0, 2])
    assert map_labels(CONFIG, task, "model").tolist() == [0, 2, 1]
    assert task.class_names == ["a", "c", "b"]


@pytest.mark.parametrize("labels", [[0, 1, 2], ["LABEL_0", "LABEL_1", "LABEL_2"]])
@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (["c", "a", "b"], [2, 0, 1]),
        (["B", "A", "c"], [1, 0, 2]),
        (["x", "c", "b", "a"], [3, 2, 1, 0]),
        (["LABEL_0", "LABEL_1", "LABEL_2"], [0, 1, 2]),
    ],
)
def test_once_a_model_has_named_the_classes_others_are_matched_by_these_names(
    labels: list[object], later: list[str], expected: list[int]
) -> None:
    task = task_of(labels)
    assert map_labels(CONFIG, task, "first").tolist() == [0, 1, 2]
    other = {**CONFIG, "id2label": {str(number): name for number, name in enumerate(later)}}
    assert map_labels(other, task, "other").tolist() == expected
    assert map_labels(CONFIG, task, "first").tolist() == [0, 1, 2]


def test_a_model_with_other_names_for_numbered_classes_is_refused() -> None:
    task = task_of([0, 1])
    map_labels({**CONFIG, "id2label": {"0": "neg", "1": "pos"}}, task, "first")
    with pytest.raises(DataError, match="other has other names for them than an earlier model: bad, good instead of neg, pos"):
        map_labels({**CONFIG, "id2label": {"0": "bad", "1": "good"}}, task, "other")


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        (["C", "A", "B"], ["a", "b", "c"], [0, 1, 2]),  # the trained head
        ([0, 2], ["a", "b", "c"], [0, 2, 1]),  # the whole trained head
        (["a", "c"], ["a", "c"], [0, 1]),  # a new one
        (["x", "y"], ["x", "y"], [0, 1]),
    ],
)
def test_a_trained_head_is_kept_where_it_fits(labels: list[object], names: list[str], classes: list[int]) -> None:
    found = head_for_task(CONFIG, task_of(labels), "model")
    assert (found[0], found[1].tolist()) == (names, classes)
