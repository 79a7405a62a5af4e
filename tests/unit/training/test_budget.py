"""Training for a span of time, by a clock of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from compress.core.errors import RecipeError, UsageError
from compress.core.validation import validate
from compress.data.batching import evaluation_batches
from compress.settings import MODE_DEFAULTS, DistillSettings, FinetuneSettings, seconds_of
from compress.training import resume
from compress.training.budget import RESERVE, Budget, Pace, schedule, scoring_seconds
from compress.training.loop import fit
from tests import tiny

CPU = torch.device("cpu")


class Clock:
    """Time goes by only where it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def simulate(seconds: float, step: Any, validation: float, per_epoch: int, guess: float | None = None) -> dict[str, Any]:
    """Run a pace as the loop does, on a clock: `step(k)` is what step k takes, `guess` what a validation is thought to take."""
    clock = Clock()
    budget = Budget(seconds, clock)
    budget.scores_take(*[validation if guess is None else guess] * 2)
    pace = Pace(per_epoch, None, budget, {})
    done, shares, validations, over = 0, [], [], False
    while not over:
        for _ in range(per_epoch):
            total = pace.begin(done)
            if done >= total:
                break
            shares.append(schedule(done, total, 0.1))
            clock.now += step(done)
            done += 1
            pace.end()
        over = done >= pace.begin(done)
        if pace.validates(done) and pace.measured["validated"] != done:
            clock.now += validation
            pace.validated(validation)
            pace.measured["validated"] = done
            validations.append(done)
    clock.now += validation  # what the stage measures at its end
    return {"spent": clock.now - 1000, "steps": done, "shares": shares, "validations": validations}


@given(st.floats(0.05, 2.0), st.floats(0.0, 5.0), st.integers(1, 300), st.integers(0, 1000))
def test_the_time_is_kept_whatever_steps_and_validations_take(each: float, validation: float, per_epoch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = simulate(100.0, lambda step: (5 if step == 0 else 1) * each * rng.uniform(0.5, 1.5), validation, per_epoch)
    assert 90 <= found["spent"] <= 100 + 1.5 * each
    assert found["validations"][-1] == found["steps"]  # the last weights are judged
    assert validation * len(found["validations"][:-1]) <= 0.25 * 100


def test_the_schedule_is_that_of_the_steps_that_fit() -> None:
    """Steps of one second, no validation: 99 of 100 seconds, the warm-up by the tenth of them."""
    found = simulate(100.0, lambda step: 1.0, 0.0, 1000)
    assert found["steps"] == 99 == round(100 * (1 - RESERVE))
    expected = [schedule(step, 99, 0.1) for step in range(99)]
    assert found["shares"][1:] == pytest.approx(expected[1:])  # nothing is known before the first one


@given(st.floats(0.2, 2.0), st.integers(5, 200), st.integers(0, 99))
def test_the_learning_rate_ends_near_zero(each: float, per_epoch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = simulate(200.0, lambda step: each * rng.uniform(0.8, 1.2), 1.0, per_epoch)
    assert all(0 < share <= 1 for share in found["shares"])
    assert max(found["shares"]) > 0.9
    assert found["shares"][-1] < 0.1


def test_a_machine_that_slows_down_still_ends_in_time() -> None:
    found = simulate(100.0, lambda step: 0.5 if step < 60 else 2.0, 1.0, 20)
    assert 90 <= found["spent"] <= 102.5


def test_a_wrong_guess_of_the_validation_is_put_right_by_the_first_one() -> None:
    found = simulate(100.0, lambda step: 0.1, 3.0, 100, guess=0.1)
    assert 90 <= found["spent"] <= 103.5


def test_at_least_one_step() -> None:
    assert simulate(1.0, lambda step: 10.0, 1.0, 5)["steps"] == 1


def test_a_long_validation_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    Budget(100.0).scores_take(5.0, 5.0)
    assert capsys.readouterr().err == ""
    Budget(100.0).scores_take(15.0, 15.0)
    assert "scoring the validation split takes about 30 s of the 1 min 40 s" in capsys.readouterr().err


def run(
    seconds: float, each: float, folder: Path | None = None, kill_at: int | None = None, clock: Clock | None = None,
    validation: float = 1.0, earlier: float = 0.0, **settings: Any,
) -> Any:  # fmt: skip
    """Fit a tiny model whose every step takes `each` seconds and every validation `validation`, after `earlier` seconds of other work."""
    clock = clock or Clock()
    budget, model, data = Budget(seconds, clock), tiny.make_model(), tiny.encoded("bert", 24)
    clock.now += earlier
    budget.scores_take(validation, 0.0)
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
    result = fit(model, data, loss_of, options, seed=0, device=CPU, validate=score, budget=budget, resume=folder)
    return result, budget.spent(), steps


@pytest.mark.parametrize(("seconds", "each", "epochs"), [(30.0, 20.0, 0.33), (60.0, 5.0, 3.67), (60.0, 28.0, 0.67), (600.0, 5.0, 36.0)])
def test_fit_keeps_to_its_budget(seconds: float, each: float, epochs: float) -> None:
    result, spent, steps = run(seconds, each)
    assert result.steps == steps
    assert result.epochs == pytest.approx(epochs, abs=0.05 * epochs + 0.01)
    assert result.epochs == pytest.approx(steps / 3, abs=0.01)
    assert abs(spent - seconds) <= max(0.1 * seconds, each / 2 + 1)


def test_what_was_spent_before_it_was_killed_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(resume, "MAX_SHARE", 1e9)
    clock = Clock()
    monkeypatch.setattr("compress.training.loop.time.monotonic", clock)
    with pytest.raises(KeyboardInterrupt):
        run(100.0, 2.0, tmp_path, kill_at=20, clock=clock)
    clock.now = 5.0  # another boot
    result, spent, steps = run(100.0, 2.0, tmp_path, clock=clock)
    assert result.steps == steps + 20
    assert spent == pytest.approx(100, abs=10)


def test_what_was_spent_before_training_counts_after_a_kill_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(resume, "MAX_SHARE", 1e9)
    clock = Clock()
    with pytest.raises(KeyboardInterrupt):
        run(100.0, 2.0, tmp_path, kill_at=10, clock=clock, earlier=50.0)
    result, spent, steps = run(100.0, 2.0, tmp_path, clock=clock)
    assert steps <= 16  # 30 of the 100 seconds are left, less a validation or two
    assert spent == pytest.approx(100, abs=10)
    assert result.steps == steps + 10


def test_patience_counts_scores_and_not_the_epochs_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = []
    for patience in (1, 2):
        clock = Clock()
        monkeypatch.setattr("compress.training.loop.time.monotonic", clock)
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
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="write a time of at most a week as 90s, 5m or 1.5h"):
        validate(FinetuneSettings, {"budget": text}, "finetune", UsageError)


@pytest.mark.parametrize("value", [5, 5.0, True, ["5m"], {}])
def test_a_number_is_no_time(value: Any) -> None:
    with pytest.raises(RecipeError):
        validate(DistillSettings, {"budget": value}, "distill", RecipeError)


def test_epochs_or_a_budget() -> None:
    with pytest.raises(UsageError, match="give epochs or a budget of time, not both"):
        validate(DistillSettings, {"epochs": 3, "budget": "5m"}, "distill", UsageError)
    assert (FinetuneSettings().epochs, FinetuneSettings(budget="5m").epochs) == (3, None)
    for mode, own in MODE_DEFAULTS.items():
        assert FinetuneSettings.model_validate({"mode": mode}).epochs == own["epochs"]
        timed = FinetuneSettings.model_validate({"mode": mode, "budget": "5m"})
        assert (timed.epochs, timed.lr) == (None, own.get("lr"))
        assert FinetuneSettings.model_validate(timed.model_dump(mode="json")) == timed


def test_scoring_is_timed_on_a_sample() -> None:
    data, clock, seen = tiny.encoded("bert", 500), Clock(), 0

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        nonlocal seen
        tokens = batch["input_ids"].size  # padding takes time, too
        seen, clock.now = seen + tokens, clock.now + 0.001 * tokens
        return np.zeros((len(batch["input_ids"]), 3))

    whole = sum(data.batch(positions)["input_ids"].size for positions in evaluation_batches(data.lengths, 32))
    assert scoring_seconds(forward, data, clock) == pytest.approx(0.001 * whole, rel=1e-6)
    assert seen < 0.4 * whole
    assert scoring_seconds(forward, tiny.encoded("bert", 1), clock) > 0
