"""Fit what pruning left as a whole: few gradient steps on the calibration texts towards the dense model's states and answers.

Layer by layer, closed forms ([reconstruct.py](../model/reconstruct.py)) move the output projections alone, each for itself.
Here all weights but the embeddings' move together, as in post-training reconstruction by blocks (BRECQ, Li et al. 2021, arXiv
2102.05426, eq. 10), with the whole encoder as the block and every layer's states as the target. No label is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from compress.core import console
from compress.core.errors import Diverged
from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.distill.cache import TeacherOutputs
from compress.distill.layer_matching import matches
from compress.distill.objective import Lessons, Objective
from compress.editing.gradients import dropout_disabled, preserved_requires_grad
from compress.editing.least_squares import split_held_out
from compress.models.device import Batch, to_tensors
from compress.models.model_shape import model_shape
from compress.settings import DistillSettings
from compress.training.learning_rate import default_lr
from compress.training.loop import Loss, TrainingPlan, fit

RATE = 2.0  # times the usual learning rate: a pruned model is far from where it should be, and the steps are few
STATES = 20.0  # weight of the states' normalised error beside that of the answers


def refit_jointly(
    model: Any,
    dense: Any,
    data: Encoded,
    batches: Sequence[np.ndarray],
    answers: TeacherOutputs,
    origins: Sequence[int],
    target: Target,
    device: torch.device,
    epochs: int,
    seed: int,
) -> dict[str, float]:
    """Fit a pruned model to the dense one, in place; leave it as it was where the loss on held-out texts does not fall.

    Args:
        model: the pruned model, with the dense one's width.
        dense: the dense model, in evaluation mode.
        data: the calibration texts.
        batches: their positions by batches in random order; `held_out` of them judge and are not fitted.
        answers: the dense model's logits and hidden states of `data`.
        origins: for each layer of the pruned model its position in the dense one.
        target: what the logits answer.
        device: where to compute.
        epochs: passes over the texts.
        seed: of their order.

    Returns:
        The held-out mean loss `before` and `after`.
    """
    settings = _settings(origins, epochs, refit_lr(model), device)
    model.to(device)
    dense.to(device)
    lessons = Lessons(dense, answers, data, data, np.ones(len(data), dtype=bool), target, labeled=False)
    objective = Objective(model, lessons, matches(settings, model_shape(dense), model_shape(model)), settings, device)
    parts, judging = split_held_out(batches)
    fitted = np.concatenate(parts)

    @torch.no_grad()
    def judged() -> float:
        losses = [float(objective(to_tensors(data.batch(part), model, device), part)) * len(part) for part in judging]
        return sum(losses) / sum(map(len, judging))

    before, old = judged(), {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def loss_of(batch: Batch, positions: np.ndarray) -> torch.Tensor:
        return objective(batch, fitted[positions])

    taken = data.take(fitted)
    after = math.inf
    with dropout_disabled(model), preserved_requires_grad(model), suppress(Diverged):
        plan = TrainingPlan(settings, seed, label="refitting jointly")
        fit(model, taken, Loss(loss_of, item_count=taken.items), plan)
        after = judged()
    if not after < before:  # or not finite
        model.load_state_dict(old)
    console.info(f"  refitted jointly: loss on held-out texts {before:.3f}, now {min(before, after):.3f}")
    return {"before": before, "after": min(before, after)}


def _settings(origins: Sequence[int], epochs: int, lr: float, device: torch.device) -> DistillSettings:
    return DistillSettings.model_validate(
        {
            **matched(origins),
            "temperature": 1.0,
            "hard_weight": 0.0,
            "epochs": epochs,
            "lr": lr,
            "weight_decay": 0.0,
            "freeze_embeddings": True,
            "device": device.type,
        }
    )


def matched(origins: Sequence[int]) -> dict[str, Any]:
    """Return what is matched, as settings of a distillation: the answers, and every layer's states with those of the layer that it was."""
    pairs = ",".join(f"{origin + 1}-{number + 1}" for number, origin in enumerate(origins))
    return {"method": ["logits", f"nmse:{STATES:g}"], "match": f"nmse:{pairs}"}


def refit_lr(model: Any) -> float:
    """Return the learning rate for a pruned model."""
    return RATE * default_lr(model)
