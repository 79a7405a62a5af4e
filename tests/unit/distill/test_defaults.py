"""Default epochs and learning rates of `distill`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compress
from compress.core.errors import DataError
from compress.distill import student_training
from compress.distill.defaults import MAX_EPOCHS, MIN_STEPS, epochs_of, student_lr
from compress.settings import DistillSettings
from compress.training.learning_rate import RECURRENT_LR
from compress.training.loop import TrainingResult
from tests import tiny


@pytest.mark.parametrize(("texts", "epochs"), [(6920, 5), (3576, 9), (4500, 8), (100_000, 3), (64, 10), (1, 10)])
def test_few_texts_have_more_epochs(texts: int, epochs: int) -> None:
    assert epochs_of(DistillSettings(batch_size=32), texts) == epochs
    steps = epochs * math.ceil(texts / 32)
    assert steps >= MIN_STEPS or epochs == MAX_EPOCHS


MANY = [str(number) for number in range(30)]


@pytest.mark.parametrize(
    ("changes", "cut", "rate"),
    [({}, False, 2e-4), ({}, True, 5e-4), ({"labels": MANY}, False, 3e-4), ({"labels": MANY}, True, 5e-4)],
)
def test_the_learning_rate(changes: dict[str, Any], cut: bool, rate: float) -> None:
    assert student_lr(tiny.make_model(**changes), cut) == pytest.approx(rate)


def test_a_bilstm_has_its_own_learning_rate() -> None:
    assert student_lr(tiny.make_bilstm()) == RECURRENT_LR


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int | None, float | None]]:
    """The epochs and learning rates of trainings, which do not take place."""
    seen: list[tuple[int | None, float | None]] = []

    def fit(model: Any, data: Any, loss: Any, plan: Any, validate: Any = None) -> TrainingResult:
        seen.append((plan.settings.epochs, plan.settings.lr))
        return TrainingResult(epochs=1, steps=1, best_epoch=1, loss=0.5, score=0.5, precision="fp32", seconds=0.1)

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
def test_open_settings_are_filled_in(
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


def test_a_missing_validation_split_is_an_error_before_any_work(checkpoint: Callable[..., Path], tiny_task: Any, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("the red fox\n", encoding="utf-8")
    document = {key: value for key, value in tiny_task.items() if key not in ("train", "validation")} | {"test": tiny_task["train"]}
    with pytest.raises(DataError, match="needs the validation split, and task tiny has only: test"):
        compress.distill(checkpoint(), "layers=2", document, tmp_path / "out", unlabeled=str(tmp_path / "texts.txt"))


def test_a_trained_student_of_another_width_has_the_usual_learning_rate(
    checkpoint: Callable[..., Path], tiny_task: dict[str, Any], fitted: list[tuple[int | None, float | None]], tmp_path: Path
) -> None:
    narrow = tiny.write_checkpoint(tmp_path / "narrow", hidden_size=16)
    compress.distill(checkpoint(), narrow, tiny_task, tmp_path / "student")
    assert fitted == [pytest.approx((10, 2e-4))]


def test_epochs_stay_open_except_for_tinybert() -> None:
    assert DistillSettings().epochs is None
    assert DistillSettings(method=["tinybert"]).epochs == 3
    assert DistillSettings(epochs=4).epochs == 4
    assert DistillSettings(budget="5m").epochs is None
