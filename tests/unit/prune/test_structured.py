"""Pruning heads and neurons in steps, to measured targets and within accuracy budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import UsageError
from compress.models.checkpoint import load_model
from compress.models.model_shape import model_shape
from compress.prune import structured as module
from compress.prune.context import PruneContext
from compress.prune.refitter import Refitter
from compress.settings import PruneSettings
from tests import tiny
from tests.unit.prune.fakes import FIXED, Maker, fake_cost, rough_costs, run


def test_a_speedup_is_searched_until_it_is_measured(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_speedup=2.0, calib_samples=24)
    assert result["measured_speedup"] == pytest.approx(2.0, rel=0.12)  # tiny layers come in few sizes
    assert result["target"] == {"time": 2.0, "seq_len": result["target"]["seq_len"]}
    with pytest.raises(UsageError, match="out of reach"):
        run(checkpoint(), tiny_task, tmp_path / "far", target_speedup=99.0)


def test_a_latency_is_reached(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    dense_ms = 1e-3 * fake_cost(model_shape(tiny.make_model()))
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_latency_ms=dense_ms / 2, calib_samples=24)
    assert result["measured"]["latency_ms"] == pytest.approx(dense_ms / 2, rel=0.12)


def test_measurements_on_the_way_correct_the_prediction(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_speedup=[3.0], calib_samples=24)
    dense, shape = model_shape(tiny.make_model()), model_shape(load_model(tmp_path / "out"))
    costs = rough_costs(dense)
    uncorrected = costs.total(dense) / costs.total(shape)
    error = abs(result["predicted_speedup"] / result["measured_speedup"] - 1)
    assert error < min(0.05, abs(uncorrected / result["measured_speedup"] - 1))


def test_an_accuracy_budget_leads_to_the_fastest_model_within_it(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the share of FLOPs kept as the score, a drop of d points allows a share of 1 - d / 100."""
    dense = model_shape(tiny.make_model()).flops(20)
    monkeypatch.setattr(Refitter, "refit_whole", lambda refitter, model, origins: {"joint": {"flops": model_shape(model).flops(20)}})
    monkeypatch.setattr(PruneContext, "validate", lambda self, model, *_: {"n": 1, "accuracy": model_shape(model).flops(20) / dense})
    result = run(checkpoint(), tiny_task, tmp_path / "out", max_drop=50.0, calib_samples=24, seq_len=20)
    assert 0.5 <= result["flops"] / dense < 0.7
    assert any(point["score"] < 0.5 for point in result["curve"])  # it continued until one lost too much
    assert result["refits"]["joint"] == {"flops": result["flops"]}  # of the model that is written, not of the last one tried
    with pytest.raises(UsageError, match="keeps within"):
        run(checkpoint(), tiny_task, tmp_path / "none", max_drop=0.0, calib_samples=24)


def test_an_unlimited_accuracy_budget_ends_where_nothing_is_left_to_remove(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path
) -> None:
    run(checkpoint(), tiny_task, tmp_path / "out", max_drop=100.0, method="magnitude")
    dense, shape = model_shape(tiny.make_model()), model_shape(load_model(tmp_path / "out"))
    assert shape.flops(20) < 0.1 * dense.flops(20)
    assert rough_costs(dense).total(shape) > FIXED


@pytest.mark.parametrize(
    ("when", "epochs", "expected"),
    [("after", 3, [3]), ("between", 3, [1, 1, 1]), ("between", 2, [1, 1]), ("between", 1, [1]), ("between", 10, [3, 3, 4])],
)
def test_epochs_of_recovery_after_or_between_the_steps(
    tiny_task: dict[str, Any],
    checkpoint: Maker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    epochs: int,
    expected: list[int],
) -> None:
    spent: list[int] = []
    monkeypatch.setattr(module, "recover", lambda context, model, epochs: spent.append(epochs))
    run(
        checkpoint(),
        tiny_task,
        tmp_path / "out",
        target_flops=0.3,
        steps=3,
        recover=when,
        recover_epochs=epochs,
        calib_samples=24,
        refit_epochs=0,
    )
    assert [each for each in spent if each] == expected
    assert len(spent) == 3  # once a step


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_flops": 0.5, "target_speedup": 2.0},
        {"target_flops": 0.5, "steps": 2, "method": "taylor"},
        {"target_speedup": 1.0},
        {"target_flops": 0.5, "steps": 51},
    ],
    ids=str,
)
def test_one_target_and_steps_only_where_they_mean_something(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"target|steps|greater"):
        PruneSettings(**settings)
