"""The stage: targets are held, what comes out reloads, trains and is exported, and what it cannot take is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compress
from compress.core.errors import UsageError
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.models.model_shape import count_params, model_shape
from compress.settings import FactorizeSettings
from tests import tiny
from tests.conftest import Maker

FAST: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "fp32", "device": "cpu"}
METHODS = ("fisher", "activations", "plain")


def settings_of(**fields: Any) -> FactorizeSettings:
    return FactorizeSettings.model_validate({"device": "cpu", **fields})


@pytest.mark.parametrize(
    ("target", "method"),
    zip([{"target_flops": 0.7}, {"target_params": 0.7}, {"rank": 6}, {"ratio": 0.5}], [*METHODS, "fisher"], strict=True),
)
def test_targets_are_held(target: dict[str, Any], method: Any, checkpoint: Maker, tiny_task: Any, tmp_path: Path) -> None:
    found = compress.factorize(checkpoint(), tiny_task, tmp_path / "out", method=method, device="cpu", **target)
    model = load_model(tmp_path / "out")
    before, after = model_shape(tiny.make_model()), model_shape(model)
    assert found["layers"] == after.as_json()
    assert (found["params"], found["flops"]) == (count_params(model), after.flops(found["target"]["seq_len"]))
    assert found["target"] == {**target, "seq_len": found["target"]["seq_len"]}
    if "target_flops" in target:
        assert 0.55 < found["flops"] / found["flops_before"] <= 0.7
    elif "target_params" in target:
        assert 0.55 < after.params() / before.params() <= 0.7
    else:
        assert all(len(layer.ranks) == 6 for layer in after.layers)
    assert found["metrics"]["validation"].keys() >= {"n", "accuracy", "before"}
    assert len(found["refits"]) == tiny.LAYERS


def test_refits_mend_what_plain_factors_lose(checkpoint: Maker, tiny_task: Any, tmp_path: Path) -> None:
    data = tiny.encoded("bert", 60)
    expected = run_batches(torch_forward(tiny.make_model()), data)
    errors = []
    for refit in (True, False):
        folder = tmp_path / str(refit)
        found = compress.factorize(checkpoint(), tiny_task, folder, method="plain", ratio=0.5, refit=refit, device="cpu")
        assert bool(found["refits"]) == refit
        errors.append(float(np.abs(run_batches(torch_forward(load_model(folder)), data) - expected).mean()))
    assert errors[0] < errors[1]


def test_embeddings_alone(checkpoint: Maker, tiny_task: Any, tmp_path: Path) -> None:
    found = compress.factorize(checkpoint(), tiny_task, tmp_path / "out", embedding_rank=12, device="cpu")
    model = load_model(tmp_path / "out")
    assert (found["embedding_rank"], model_shape(model).embedding) == (12, (12, tiny.HIDDEN))
    assert not any(layer.ranks for layer in model_shape(model).layers)
    assert found["flops"] - found["flops_before"] == 2 * found["target"]["seq_len"] * 12 * tiny.HIDDEN
    assert found["params"] < found["params_before"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "give one of"),
        ({"rank": 3, "ratio": 0.5}, "give one of"),
        ({"rank": 22}, "at rank 22 no linear"),
        ({"embedding_rank": 31}, "no smaller at rank 31"),
        ({"target_flops": 0.01}, "not even the lowest ranks"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: Any, message: str, checkpoint: Maker, tiny_task: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        compress.factorize(checkpoint(), tiny_task, tmp_path / "out", device="cpu", **fields)
    assert not (tmp_path / "out").exists()
    assert fields in ({}, {"rank": 3, "ratio": 0.5}) or caught.value.hint
