"""A compressed model next to its dense one."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

from compress.data.presets import resolve
from compress.data.task import Task
from compress.editing.dense_model import load_dense_model
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.inference.validation import validate_both
from tests.conftest import Maker


def test_both_models_are_scored(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    dense = load_dense_model(checkpoint(), Task(resolve(tiny_task)), 0, "share")
    model = copy.deepcopy(dense.model)
    with torch.no_grad():
        model.get_submodule("classifier").weight.mul_(-1)
    metrics = validate_both(dense, model)
    evaluator = Evaluator(dense.task, "validation", checkpoint(), dense.classes)
    assert metrics["n"] == len(evaluator) == 24
    assert metrics["accuracy"] == evaluator.score(torch_forward(model))["accuracy"]
    assert metrics["before"] == evaluator.score(torch_forward(dense.model))["accuracy"]
    assert validate_both(replace(dense, model=model), dense.model)["before"] == metrics["accuracy"]


def test_without_validation_there_are_no_metrics(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    task = {key: value for key, value in tiny_task.items() if key not in ("train", "validation")}
    dense = load_dense_model(checkpoint(), Task(resolve(task)), 0, "share")
    assert validate_both(dense, dense.model) == {}
