"""A model's classes and a task's classes, matched by name."""

from __future__ import annotations

import numpy as np
import pytest

from compress.core.errors import DataError
from compress.models.label_mapping import NO_CLASS, map_label_names, predicted_classes


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


@pytest.mark.parametrize("model", [["a", "c"], ["LABEL_0", "LABEL_1", "LABEL_2"], ["A", "B"]])
def test_a_label_that_the_model_does_not_know(model: list[str]) -> None:
    with pytest.raises(DataError, match="does not know the label") as caught:
        map_label_names(model, ["a", "b"], "model")
    assert caught.value.exit_code == 4
    assert ", ".join(model) in caught.value.message


def test_case_of_a_label_is_not_guessed() -> None:
    with pytest.raises(DataError, match="'Sports'"):
        map_label_names(["sports", "tech"], ["Sports", "tech"], "model")
