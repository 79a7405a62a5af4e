"""Joint refit: few gradient steps on the calibration texts that fit all of a pruned model to the dense one's states and logits.

Least squares ([reconstruction.py](../editing/reconstruction.py)) fit each output projection alone. Here all weights but the
embeddings' move together, as in the block reconstruction of post-training quantization (BRECQ, Li et al. 2021, arXiv
2102.05426, eq. 10), with the whole encoder as the block and every layer's hidden states as targets. No label is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch

from compress.core import console
from compress.core.errors import Diverged
from compress.distill.distillation_loss import DistillationLoss
from compress.distill.layer_matching import match_layers
from compress.distill.teacher_outputs import TeacherOutputs
from compress.distill.training_data import TrainingData
from compress.editing.calibration import Calibration
from compress.editing.dense_model import DenseModel
from compress.editing.gradients import dropout_disabled, preserved_requires_grad
from compress.editing.least_squares import split_held_out
from compress.models.device import Batch, to_tensors
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel
from compress.settings import DistillSettings
from compress.training.learning_rate import default_lr
from compress.training.loop import Loss, TrainingPlan, fit

LR_FACTOR = 2.0  # times the usual learning rate: a pruned model is far from its optimum, and the steps are few
STATES_WEIGHT = 20.0  # of the normalised error of the hidden states, relative to the logits' loss


def refit_jointly(
    model: TransformersModel,
    dense: DenseModel,
    calibration: Calibration,
    dense_outputs: TeacherOutputs,
    origins: Sequence[int],
    epochs: int,
    device: torch.device,
) -> dict[str, float]:
    """Fit a pruned model to the dense one, in place; keep it as it was if the loss on held-out texts does not fall.

    Args:
        model: the pruned model, with the dense one's hidden width.
        dense: the dense model.
        calibration: the texts; `split_held_out` of their batches are not fitted, and decide whether the fit is kept.
        dense_outputs: the dense model's logits and hidden states of these texts.
        origins: the position of each layer of `model` in the dense model.
        epochs: passes over the texts.
        device: where to compute.

    Returns:
        The mean loss on held-out texts `before` and `after`.
    """
    settings = _settings(origins, epochs, pruned_lr(model), device)
    data = calibration.data
    model.to(device)
    dense.model.to(device)
    training_data = TrainingData(data, data, dense_outputs, np.ones(len(data), dtype=bool), dense.target, labeled=False)
    matches = match_layers(settings, dense.shape, model_shape(model))
    objective = DistillationLoss(model, dense.model, training_data, matches, settings, device)
    fitted_batches, held_out_batches = split_held_out(calibration.shuffled_batches())
    fitted = np.concatenate(fitted_batches)

    @torch.no_grad()
    def held_out_loss() -> float:
        losses = [float(objective(to_tensors(data.batch(batch), model, device), batch)) * len(batch) for batch in held_out_batches]
        return sum(losses) / sum(map(len, held_out_batches))

    before, old = held_out_loss(), {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def loss_of(batch: Batch, positions: np.ndarray) -> torch.Tensor:
        return objective(batch, fitted[positions])

    train = data.take(fitted)
    after = math.inf
    with dropout_disabled(model), preserved_requires_grad(model), suppress(Diverged):  # a diverged fit is undone below
        fit(model, train, Loss(loss_of, item_count=train.items), TrainingPlan(settings, dense.seed, label="refitting jointly"))
        after = held_out_loss()
    if not after < before:  # also if it is not finite
        model.load_state_dict(old)
    console.info(f"  refitted jointly: loss on held-out texts {before:.3f}, now {min(before, after):.3f}")
    return {"before": before, "after": min(before, after)}


def _settings(origins: Sequence[int], epochs: int, lr: float, device: torch.device) -> DistillSettings:
    return DistillSettings.model_validate(
        {
            **state_matching(origins),
            "temperature": 1.0,
            "hard_weight": 0.0,
            "epochs": epochs,
            "lr": lr,
            "weight_decay": 0.0,
            "freeze_embeddings": True,
            "device": device.type,
        }
    )


def state_matching(origins: Sequence[int]) -> dict[str, object]:
    """Return distillation settings that match the logits, and each layer's states with those of its origin in the dense model."""
    pairs = ",".join(f"{origin + 1}-{number + 1}" for number, origin in enumerate(origins))
    return {"method": ["logits", f"nmse:{STATES_WEIGHT:g}"], "match": f"nmse:{pairs}"}


def pruned_lr(model: TransformersModel) -> float:
    """Return the peak learning rate for a pruned model: twice the usual one of its width."""
    return LR_FACTOR * default_lr(model)
