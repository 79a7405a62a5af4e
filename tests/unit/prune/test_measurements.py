"""Measurements that a resumed run repeats."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.presets import resolve
from compress.data.task import Task
from compress.models.model_shape import model_shape
from compress.prune import measurements as module
from compress.prune import prune_to_targets
from compress.prune.context import PruneContext
from compress.prune.cost_model import CostModel
from compress.prune.measurements import Measurements, RecordedClock
from compress.settings import PruneSettings
from compress.stage import Inputs
from tests import tiny
from tests.unit.prune.fakes import FakeClock, Maker, rough_costs


class NoisyClock(FakeClock):
    """A clock that never measures the same twice; it fails after a number of measurements."""

    def __init__(self, dense: Any, seed: int, most: int | None = None) -> None:
        super().__init__(dense)
        self.draw, self.most = np.random.default_rng(seed), most

    def speedup(self, model: Any) -> tuple[float, list[float]]:
        if len(self.timed) == self.most:
            raise KeyboardInterrupt
        ratio = super().speedup(model)[0] * float(np.exp(self.draw.normal(0, 0.3)))
        return ratio, [ratio, ratio]


def prune(source: Path, document: dict[str, Any], output: Path, resume: Path | None, clock: int, most: int | None = None) -> NoisyClock:
    """Prune to a speedup in steps, on a clock of this seed."""
    output.mkdir()
    settings = PruneSettings(target_speedup=[2.0], steps=3, calib_samples=16, refit=False, device="cpu")
    context = PruneContext(Inputs({"model": source}, 0, Task(resolve(document)), resume=resume), settings)
    shape = context.dense.shape
    noisy = NoisyClock(shape, clock, most)
    recorded = RecordedClock(noisy, Measurements(resume))
    prune_to_targets(context, CostModel(shape, "time", context.seq_len, rough_costs(shape), recorded, "a noisy clock"), output)
    return noisy


def test_a_killed_run_resumes_with_what_it_measured(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    whole = prune(checkpoint(), tiny_task, tmp_path / "whole", None, 1)
    assert len(whole.timed) > 4
    most = len(whole.timed) - 1
    with pytest.raises(KeyboardInterrupt):
        prune(checkpoint(), tiny_task, tmp_path / "stopped", tmp_path / "state", 1, most)
    resumed = prune(checkpoint(), tiny_task, tmp_path / "resumed", tmp_path / "state", 2)
    assert len(resumed.timed) < most
    assert (tmp_path / "resumed" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_each_measurement_of_a_shape_is_kept_by_its_turn(tmp_path: Path) -> None:
    model = tiny.make_model()
    shape = model_shape(model)
    first = RecordedClock(NoisyClock(shape, 1), Measurements(tmp_path / "state"))
    measured = [first.speedup(model), first.speedup(copy.deepcopy(model))]
    assert measured[0] != measured[1]
    again = RecordedClock(NoisyClock(shape, 2), Measurements(tmp_path / "state"))
    assert [again.speedup(model), again.speedup(model)] == measured
    assert again.speedup(model) not in measured


@pytest.mark.parametrize("text", ["", "[]", "{", "\udcff"])
def test_a_damaged_file_costs_new_measurements_only(tmp_path: Path, text: str) -> None:
    (tmp_path / module.FILE).write_text(text, encoding="utf-8", errors="surrogateescape")
    assert Measurements(tmp_path).once("x", lambda: 1.5) == 1.5
    assert Measurements(tmp_path).once("x", lambda: 2.5) == 1.5
