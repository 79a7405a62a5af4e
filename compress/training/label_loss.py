"""The loss of a model on labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from compress.data.encoded import Encoded
from compress.data.input_spec import Activation, Target
from compress.models.device import Batch
from compress.models.task_loss import logits_of, task_loss
from compress.training.loop import Loss


def loss_on_labels(
    model: Callable[..., object],
    data: Encoded,
    target: Target,
    device: torch.device,
    before_step: Callable[[int], None] | None = None,
    activation: Activation = "none",
) -> Loss:
    """Return the task's loss of a model on the labels of `data`.

    Args:
        model: computes the outputs of a batch, given as keyword arguments.
        data: the training examples, labels numbered as the model's logits.
        target: what the logits predict.
        device: where the model computes.
        before_step: see `Loss`.
        activation: from a logit to the value.
    """

    def function(batch: Batch, positions: np.ndarray) -> torch.Tensor:
        labels = torch.from_numpy(data.targets(positions)).to(device)
        return task_loss(logits_of(model(**batch)), labels, batch["attention_mask"], target, activation=activation)

    return Loss(function, item_count=data.items, before_step=before_step)
