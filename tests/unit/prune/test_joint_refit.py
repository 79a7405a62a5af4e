"""The joint refit: every kind of answer, nearer to the dense model on texts that it did not see, and refused where it is not."""

from __future__ import annotations

import copy
import importlib
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import Diverged
from compress.data.examples import Examples
from compress.distill.teacher_outputs import compute_teacher_outputs
from compress.editing.calibration import Calibration
from compress.editing.dense_model import DenseModel
from compress.prune.joint_refit import refit_jointly
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

CPU = torch.device("cpu")
module = importlib.import_module("compress.prune.joint_refit")


def pruned(family: str, target: Any) -> tuple[Any, Any, Any]:
    """A dense model, its pruned copy (a layer without heads, one without neurons), and texts."""
    dense = tiny.make_model(family, target=target).eval()
    model = copy.deepcopy(dense)
    slice_model(model, [Kept((0, 1), tuple(range(16))), Kept((), tuple(range(16))), Kept((2,), ())])
    data = tiny.encoded(family, count=60)
    labels = {
        "class": data.labels,
        "labels": np.zeros((60, len(tiny.LABELS)), dtype=np.float32),
        "value": np.zeros(60, dtype=np.float32),
        "tags": [np.zeros(length, dtype=np.int64) for length in data.lengths],
        "span": np.zeros((60, 2), dtype=np.int64),
    }[target]
    return dense, model, replace(data, labels=labels)


def refitted(dense: Any, model: Any, data: Any, target: Any, features: bool = True, epochs: int = 3) -> dict[str, float]:
    states = [("hidden", number + 1) for number in range(tiny.LAYERS)] if features else []
    outputs = compute_teacher_outputs(dense, f"dense-{target}-{dense.config.model_type}", data, states, CPU)
    outputs = outputs if features else replace(outputs, features=None)
    task: Any = SimpleNamespace(spec=SimpleNamespace(target=target))
    dense_model = DenseModel(dense, Path(), task, np.arange(0), 0)
    calibration = Calibration(Examples([], np.zeros(0)), data, True, target, 0)
    return refit_jointly(model, dense_model, calibration, outputs, range(tiny.LAYERS), epochs, CPU)


@pytest.mark.parametrize(("family", "target"), tiny.EACH_FAMILY)
def test_a_pruned_model_comes_nearer_to_the_dense_one(family: str, target: Any) -> None:
    dense, model, data = pruned(family, target)
    embeddings = {name: tensor.clone() for name, tensor in model.state_dict().items() if ".embeddings." in name}
    errors = refitted(dense, model, data, target)
    assert math.isfinite(errors["after"])
    assert errors["after"] < errors["before"]
    assert not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in embeddings.items())


def test_states_that_do_not_fit_the_cache_are_computed_again() -> None:
    dense, model, data = pruned("bert", "class")
    other = copy.deepcopy(model)
    kept, computed = refitted(dense, model, data, "class"), refitted(dense, other, data, "class", features=False)
    assert kept["after"] == pytest.approx(computed["after"], rel=1e-2)  # half precision against single


def test_dropout_is_off_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, model, data = pruned("bert", "class")
    model.dropout.p = 0.25
    seen = []
    fit = module.fit
    monkeypatch.setattr(module, "fit", lambda *args, **options: (seen.append(model.dropout.p), fit(*args, **options)))
    refitted(dense, model, data, "class")
    assert (seen, model.dropout.p) == ([0.0], 0.25)


@pytest.mark.parametrize("fails", [True, False])
def test_a_fit_that_is_no_better_is_refused(monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    dense, model, data = pruned("bert", "class")
    before = copy.deepcopy(model.state_dict())

    def worse(model: Any, *args: Any, **options: Any) -> None:
        with torch.no_grad():
            model.classifier.weight.add_(10)
        if fails:
            raise Diverged("the loss became nan")

    monkeypatch.setattr(module, "fit", worse)
    errors = refitted(dense, model, data, "class")
    assert errors["before"] == errors["after"]
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
