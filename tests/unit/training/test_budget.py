"""Training within a time budget, by a clock that the test sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from compress.core.errors import RecipeError, UsageError
from compress.core.validation import validate
from compress.data.batching import evaluation_batches
from compress.settings import MODE_DEFAULTS, DistillSettings, FinetuneSettings, seconds_of
from compress.training import resume
from compress.training.budget import TimeBudget, estimate_scoring_seconds
from compress.training.loop import Loss, TrainingPlan, fit
from tests import tiny
from tests.unit.training.clock import Clock


def test_a_long_validation_gives_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    TimeBudget(100.0).reserve(5.0, 5.0)
    assert capsys.readouterr().err == ""
    TimeBudget(100.0).reserve(15.0, 15.0)
    assert "validation takes about 30 s of the time budget of 1 min 40 s" in capsys.readouterr().err


def run(
    seconds: float, each: float, folder: Path | None = None, kill_at: int | None = None, clock: Clock | None = None,
    validation: float = 1.0, earlier: float = 0.0, **settings: Any,
) -> Any:  # fmt: skip
    """Fit a tiny model whose every step takes `each` seconds and every validation `validation`, after `earlier` seconds of other work."""
    clock = clock or Clock()
    budget, model, data = TimeBudget(seconds, clock), tiny.make_static(), tiny.encoded("bert", 24)
    clock.now += earlier
    budget.reserve(validation, 0.0)
    labels, steps = torch.from_numpy(data.labels), 0

    def loss_of(batch: Any, positions: np.ndarray) -> torch.Tensor:
        nonlocal steps
        if steps == kill_at:
            raise KeyboardInterrupt
        steps, clock.now = steps + 1, clock.now + each
        return functional.cross_entropy(model(**batch).logits, labels[positions])

    def score() -> float:
        clock.now += validation
        return 0.5

    options = FinetuneSettings.model_validate({"budget": "1h", "precision": "fp32", "device": "cpu", "batch_size": 8, **settings})
    result = fit(model, data, Loss(loss_of), TrainingPlan(options, 0, folder, budget), score)
    return result, budget.elapsed(), steps


@pytest.mark.parametrize(("seconds", "each", "epochs"), [(30.0, 20.0, 0.33), (60.0, 5.0, 3.67), (60.0, 28.0, 0.67), (600.0, 5.0, 36.0)])
def test_fit_keeps_to_its_budget(seconds: float, each: float, epochs: float) -> None:
    result, spent, steps = run(seconds, each)
    assert result.steps == steps
    assert result.epochs == pytest.approx(epochs, abs=0.05 * epochs + 0.01)
    assert result.epochs == pytest.approx(steps / 3, abs=0.01)
    assert abs(spent - seconds) <= max(0.1 * seconds, each / 2 + 1)


def test_the_time_before_a_kill_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(resume, "MAX_SHARE", 1e9)
    clock = Clock()
    with pytest.raises(KeyboardInterrupt):
        run(100.0, 2.0, tmp_path, kill_at=20, clock=clock)
    clock.now = 5.0  # another boot
    result, spent, steps = run(100.0, 2.0, tmp_path, clock=clock)
    assert result.steps == steps + 20
    assert spent == pytest.approx(100, abs=10)


def test_the_time_before_training_counts_after_a_kill_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(resume, "MAX_SHARE", 1e9)
    clock = Clock()
    with pytest.raises(KeyboardInterrupt):
        run(100.0, 2.0, tmp_path, kill_at=10, clock=clock, earlier=50.0)
    result, spent, steps = run(100.0, 2.0, tmp_path, clock=clock)
    assert steps <= 16  # 30 of the 100 seconds are left, minus a validation or two
    assert spent == pytest.approx(100, abs=10)
    assert result.steps == steps + 10


def test_patience_counts_scores_and_not_epochs() -> None:
    spent = []
    for patience in (1, 2):
        clock = Clock()
        result, seconds, _ = run(2000.0, 5.0, clock=clock, validation=60.0, patience=patience)
        assert (result.best_epoch > 1, result.score) == (True, 0.5)
        spent.append(seconds)
    assert spent[0] >= 600  # two scores, with four times as much training before each
    assert spent[1] == pytest.approx(1.5 * spent[0], rel=0.1)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("1h", 3600), ("1.5h", 5400), ("0.5s", 0.5), ("168h", 604800)])
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds
    assert FinetuneSettings(budget=text).budget_seconds == DistillSettings(budget=text).budget_seconds == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5 m", "-5m", "0m", "5min", "1h30m", "5M", "1e3s", "inf", "nans", "169h", "٥m", "5m\n", ".5h"]
)
def test_invalid_times(text: str) -> None:
    with pytest.raises(UsageError, match="write a time of at most a week as 90s, 5m or 1.5h"):
        validate(FinetuneSettings, {"budget": text}, "finetune", UsageError)


@pytest.mark.parametrize("value", [5, 5.0, True, ["5m"], {}])
def test_a_number_without_a_unit_is_invalid(value: Any) -> None:
    with pytest.raises(RecipeError):
        validate(DistillSettings, {"budget": value}, "distill", RecipeError)


def test_epochs_or_a_budget() -> None:
    with pytest.raises(UsageError, match="give epochs or a budget, not both"):
        validate(DistillSettings, {"epochs": 3, "budget": "5m"}, "distill", UsageError)
    assert (FinetuneSettings().epochs, FinetuneSettings(budget="5m").epochs) == (3, None)
    for mode, own in MODE_DEFAULTS.items():
        assert FinetuneSettings.model_validate({"mode": mode}).epochs == own["epochs"]
        timed = FinetuneSettings.model_validate({"mode": mode, "budget": "5m"})
        assert (timed.epochs, timed.lr) == (None, own.get("lr"))
        assert FinetuneSettings.model_validate(timed.in_use()) == timed


def test_scoring_time_is_estimated_from_a_sample() -> None:
    data, clock, seen = tiny.encoded("bert", 500), Clock(), 0

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        nonlocal seen
        tokens = batch["input_ids"].size  # padding takes time, too
        seen, clock.now = seen + tokens, clock.now + 0.001 * tokens
        return np.zeros((len(batch["input_ids"]), 3))

    whole = sum(data.batch(positions)["input_ids"].size for positions in evaluation_batches(data.lengths, 32))
    assert estimate_scoring_seconds(forward, data, clock) == pytest.approx(0.001 * whole, rel=1e-6)
    assert seen < 0.4 * whole
    assert estimate_scoring_seconds(forward, tiny.encoded("bert", 1), clock) > 0
