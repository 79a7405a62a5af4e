"""Compare a compressed model with its dense one on validation."""

from __future__ import annotations

from compress.editing.dense_model import DenseModel
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.models.types import TransformersModel
from compress.results import Metrics


def validate_both(dense: DenseModel, model: TransformersModel) -> Metrics:
    """Return a model's metrics on validation with `n`, the number of examples, and `before`, the dense model's main metric.

    Empty if the task has no such split. Both models are left on the CPU.
    """
    task = dense.task
    if "validation" not in task.available:
        return {}
    evaluator = Evaluator(task, "validation", dense.source, dense.classes, reference=(torch_forward(dense.model), dense.source))
    before, metrics = (evaluator.score(torch_forward(each.to("cpu"))) for each in (dense.model, model))
    return {"n": len(evaluator), **metrics, "before": before[task.spec.main_metric]}
