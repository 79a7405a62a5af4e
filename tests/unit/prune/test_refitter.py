"""What refits bring, and that the dense model is asked once."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.prune.refitter import Refitter
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests.unit.prune.fakes import Maker, context_of

KEPT = [Kept([0, 1, 2], list(range(40))), Kept([1, 2], list(range(30))), Kept([0, 1, 3], list(range(0, 64, 2)))]


def refitter_of(checkpoint: Maker, task: dict[str, Any], epochs: int = 2) -> Refitter:
    return context_of(checkpoint(), task, target_flops=0.5, refit_epochs=epochs).refitter


def test_each_refit_comes_nearer_to_the_dense_model(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    refitter = refitter_of(checkpoint, tiny_task)
    model = copy.deepcopy(refitter.dense.model)
    slice_model(model, KEPT)
    data = refitter.calibration.data
    expected = run_batches(torch_forward(refitter.dense.model), data)

    def distance() -> float:
        return float(np.abs(np.asarray(run_batches(torch_forward(model), data)) - np.asarray(expected)).mean())

    cut = distance()
    errors = refitter.refit_layers(model, [0, 1, 2])
    fitted = distance()
    errors |= refitter.refit_whole(model, [0, 1, 2])
    assert fitted < cut
    assert len(errors["layers"]) == 3
    assert errors["head"]["after"] <= errors["head"]["before"]
    assert errors["joint"]["after"] <= errors["joint"]["before"]


def test_without_epochs_there_is_no_joint_refit(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    refitter = refitter_of(checkpoint, tiny_task, epochs=0)
    assert refitter.refit_whole(copy.deepcopy(refitter.dense.model), [0, 1, 2]) == {}
    assert not refitter.dense_outputs.features


@pytest.mark.parametrize("name", ["teacher", "dense_outputs", "fitted_batches"])
def test_what_the_dense_model_gives_is_computed_once(tiny_task: dict[str, Any], checkpoint: Maker, name: str) -> None:
    refitter = refitter_of(checkpoint, tiny_task)
    assert getattr(refitter, name) is getattr(refitter, name)
