"""What `distill` does where it is not told: how long, how fast, and by which losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compress
from compress.core.errors import DataError
from compress.distill import student_training
from compress.distill.layer_matching import without_layers
from compress.distill.student_training import EPOCHS, LEAST_STEPS, usual_epochs, usual_lr
from compress.models.shape import LayerShape, Shape
from compress.settings import DistillSettings
from compress.training.learning_rate import RECURRENT_LR
from tests import tiny

WIDE = Shape(384, 32, (LayerShape(12, 1536),) * 6)
NARROW = Shape(192, 32, (LayerShape(6, 768),) * 4)
SHALLOW = Shape(384, 32, (LayerShape(12, 1536),) * 3)


@pytest.mark.parametrize(("texts", "epochs"), [(6920, 5), (3576, 9), (4500, 8), (100_000, 3), (64, 10), (1, 10)])
def test_few_texts_are_read_more_often(texts: int, epochs: int) -> None:
    assert usual_epochs(texts, 32) == epochs
    steps = epochs * math.ceil(texts / 32)
    assert steps >= LEAST_STEPS or epochs == EPOCHS[1]


MANY = [str(number) for number in range(30)]


@pytest.mark.parametrize(
    ("changes", "cut", "rate"),
    [({}, False, 2e-4), ({}, True, 5e-4), ({"labels": MANY}, False, 3e-4), ({"labels": MANY}, True, 5e-4)],
)
def test_the_rate(changes: dict[str, Any], cut: bool, rate: float) -> None:
    assert usual_lr(tiny.make_model(**changes), cut) == pytest.approx(rate)


def test_a_bilstm_has_its_own_rate() -> None:
    assert usual_lr(tiny.make_bilstm()) == RECURRENT_LR


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int | None, float | None]]:
    """The epochs and the rates with which models were trained."""
    seen: list[tuple[int | None, float | None]] = []
    right = student_training.fit

    def fit(model: Any, data: Any, loss_of: Any, settings: DistillSettings, **options: Any) -> Any:
        seen.append((settings.epochs, settings.lr))
        return right(model, data, loss_of, settings.model_copy(update={"epochs": settings.epochs and 1}), **options)

    monkeypatch.setattr(student_training, "fit", fit)
    return seen


@pytest.mark.parametrize(
    ("student", "settings", "expected"),
    [
        ("layers=2", {}, (10, 2e-4)),
        ("layers=2,hidden=16", {}, (10, 5e-4)),
        ("layers=2,hidden=16", {"lr": 1e-3, "epochs": 2}, (2, 1e-3)),
        ("layers=2,hidden=16", {"hard_weight": 1.0}, (3, None)),
        ("layers=2", {"method": "theseus"}, (3, None)),
        ("layers=2", {"budget": "20s"}, (None, 2e-4)),
    ],
)
def test_what_is_left_to_it(
    checkpoint: Callable[..., Path],
    tiny_task: dict[str, Any],
    fitted: list[tuple[int | None, float | None]],
    student: str,
    settings: dict[str, Any],
    expected: tuple[int | None, float | None],
    tmp_path: Path,
) -> None:
    compress.distill(checkpoint(), student, tiny_task, tmp_path / "student", **settings)
    assert fitted == [pytest.approx(expected)] if None not in expected else fitted == [expected]


def test_what_chooses_the_best_epoch_is_asked_for_before_any_work(checkpoint: Callable[..., Path], tiny_task: Any, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("the red fox\n", encoding="utf-8")
    document = {key: value for key, value in tiny_task.items() if key not in ("train", "validation")} | {"test": tiny_task["train"]}
    with pytest.raises(DataError, match="needs the validation split, and task tiny has only: test"):
        compress.distill(checkpoint(), "layers=2", document, tmp_path / "out", unlabeled=str(tmp_path / "texts.txt"))


def test_another_width_trained_before_takes_the_usual_rate(
    checkpoint: Callable[..., Path], tiny_task: dict[str, Any], fitted: list[tuple[int | None, float | None]], tmp_path: Path
) -> None:
    narrow = tiny.write_checkpoint(tmp_path / "narrow", hidden_size=16)
    compress.distill(checkpoint(), narrow, tiny_task, tmp_path / "student")
    assert fitted == [pytest.approx((10, 2e-4))]


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
