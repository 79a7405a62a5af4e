"""What `distill` does where it is not told: how long, how fast, and by which losses."""

from __future__ import annotations

import math
from typing import Any

import pytest

from compress.distill.matches import without_layers
from compress.distill.teaching import EPOCHS, LEAST_STEPS, usual_epochs, usual_lr
from compress.model.shape import LayerShape, Shape
from compress.settings import DistillSettings
from compress.train.loop import RECURRENT_LR
from tests import tiny

WIDE = Shape(384, 32, (LayerShape(12, 1536),) * 6)
NARROW = Shape(192, 32, (LayerShape(6, 768),) * 4)
SHALLOW = Shape(384, 32, (LayerShape(12, 1536),) * 3)


@pytest.mark.parametrize(("texts", "epochs"), [(6920, 5), (3576, 9), (4500, 8), (100_000, 3), (64, 10), (1, 10)])
def test_few_texts_are_read_more_often(texts: int, epochs: int) -> None:
    assert usual_epochs(texts, 32) == epochs
    steps = epochs * math.ceil(texts / 32)
    assert steps >= LEAST_STEPS or epochs == EPOCHS[1]


def test_the_rate_is_twice_that_of_labels_alone() -> None:
    teacher = tiny.make_model()
    assert usual_lr(tiny.make_model(), teacher) == pytest.approx(2e-4)
    assert usual_lr(tiny.make_model(hidden_size=16), teacher) == pytest.approx(5e-4)
    assert usual_lr(tiny.make_model(labels=[str(number) for number in range(30)]), teacher) == pytest.approx(3e-4)
    assert usual_lr(tiny.make_model(labels=[str(number) for number in range(30)], hidden_size=16), teacher) == pytest.approx(5e-4)
    assert usual_lr(tiny.make_bilstm(), teacher) == RECURRENT_LR


@pytest.mark.parametrize(
    ("settings", "student", "losses"),
    [
        ({}, SHALLOW, {"logits", "nmse"}),
        ({}, NARROW, {"logits"}),
        ({"method": ["logits", "nmse:20"]}, NARROW, {"logits"}),  # as a recipe that was written out has it
        ({"method": ["logits", "nmse:1"]}, NARROW, {"logits", "nmse"}),
        ({"match": "last"}, NARROW, {"logits", "nmse"}),
        ({"method": ["logits", "hidden"]}, NARROW, {"logits", "hidden"}),
        ({"layer_epochs": 2}, NARROW, {"logits", "nmse"}),
    ],
)
def test_states_of_another_width_are_not_compared_unless_asked_for(settings: dict[str, Any], student: Shape, losses: set[str]) -> None:
    assert set(without_layers(DistillSettings(**settings), WIDE, student).losses) == losses


def test_epochs_are_left_to_the_data_but_where_a_method_has_its_own() -> None:
    assert DistillSettings().epochs is None
    assert DistillSettings(method=["tinybert"]).epochs == 3
    assert DistillSettings(epochs=4).epochs == 4
    assert DistillSettings(budget="5m").epochs is None
