"""Head refit: fit the last linear of a pruned model's head to the dense model's predictions.

The fit is convex and needs no gradient below the linear. Least squares by layers
([reconstruction.py](../editing/reconstruction.py)) bring the hidden states near the dense model's, but their remaining error is
systematic: it makes predictions too confident, or biased towards a class. So the linear that makes the logits is fitted to the
dense model's predicted distribution (soft labels, Hinton et al. 2015, arXiv 1503.02531, eq. 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from compress.data.encoded import IGNORED, Encoded
from compress.data.input_spec import TOKEN_LABELS, Target
from compress.distill.losses import MASKED_LOGIT, logits_loss
from compress.distill.teacher_outputs import TeacherOutputs
from compress.editing.layerwise import captured_inputs
from compress.editing.least_squares import split_held_out
from compress.models.device import to_tensors
from compress.models.embedder import pooled
from compress.models.family import family_of
from compress.models.layers import find_submodule
from compress.models.task_loss import logits_of
from compress.models.types import TransformersModel

RIDGES = (1e-2, 1e-3, 1e-4, 1e-5)  # from strong to weak; each fit starts where the one before ended
ITERATIONS = 30


@dataclass
class HeadRows:
    """Inputs of a head's last linear, and the dense model's logits for them.

    Attributes:
        inputs: (n, k); of spans (n, length, k).
        logits: (n, logits); of spans (n, length, 2).
        mask: (n, length) of spans, 0 at padding; otherwise (n, 1) of ones.
    """

    inputs: torch.Tensor
    logits: torch.Tensor
    mask: torch.Tensor

    def loss(self, weight: torch.Tensor, bias: torch.Tensor, target: Target) -> torch.Tensor:
        """Return the mean loss of `inputs weight' + bias` against the dense model's logits, convex in weight and bias."""
        rows: Target = "class" if target in TOKEN_LABELS else target  # each row is one token with a label
        return logits_loss(functional.linear(self.inputs, weight, bias), self.logits, self.mask, self.mask, rows, 1.0)


def refit_head(
    model: TransformersModel,
    data: Encoded,
    batches: Sequence[np.ndarray],
    dense_outputs: TeacherOutputs,
    target: Target,
    device: torch.device,
) -> dict[str, float]:
    """Refit the last linear of a model's head to the dense model's logits, in place; keep the old one if no fit is better.

    Args:
        model: the pruned model, in evaluation mode.
        data: the calibration texts; labels matter only for tags and mentions, where tokens with the label -100 are left out.
        batches: positions of its batches in random order, two at least; `split_held_out` of them select the fit.
        dense_outputs: the dense model's logits of `data`.
        target: what the model predicts.
        device: where to compute.

    Returns:
        The mean loss on held-out rows `before` and `after` (`compress.distill.losses.logits_loss`, temperature 1).
    """
    linear = find_submodule(model.to(device), family_of(model.config.model_type).last_linear(target))
    rows = [_rows(model, linear, data, positions, dense_outputs, target, device) for positions in batches]
    fitted, selecting = split_held_out(rows)
    return refit_head_linear(linear, _joined(fitted, target), _joined(selecting, target), target)


def refit_head_linear(linear: nn.Linear, fitted: HeadRows, selecting: HeadRows, target: Target) -> dict[str, float]:
    """Fit a linear's weight and bias to the dense model's logits, in place; held-out rows select the ridge.

    Minimises `loss + r |W - W_old|^2` by L-BFGS; the bias is not penalised.

    Args:
        linear: the linear.
        fitted: rows to fit.
        selecting: held-out rows.
        target: what the model predicts.

    Returns:
        The mean loss on held-out rows `before` and `after`.
    """
    old = linear.weight.detach().clone()

    def fitted_loss(parameters: Sequence[torch.Tensor], ridge: float) -> torch.Tensor:
        return fitted.loss(parameters[0], parameters[1], target) + ridge * (parameters[0] - old).square().sum()

    return fit_parameters([linear.weight, linear.bias], fitted_loss, lambda parts: selecting.loss(parts[0], parts[1], target))


def fit_parameters(
    parameters: Sequence[torch.Tensor],
    fitted_loss: Callable[[Sequence[torch.Tensor], float], torch.Tensor],
    selecting_loss: Callable[[Sequence[torch.Tensor]], torch.Tensor],
) -> dict[str, float]:
    """Fit parameters in place for one ridge of `RIDGES` after the other; keep the best on held-out rows, the old ones if none is better.

    Args:
        parameters: to fit.
        fitted_loss: of values for them and a ridge.
        selecting_loss: of values for them, on held-out rows.

    Returns:
        The loss on held-out rows `before` and `after`.
    """
    old = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        before = float(selecting_loss(old))
    best, best_loss = old, before
    new = [part.clone().requires_grad_() for part in old]
    for ridge in RIDGES:
        _minimise(new, partial(fitted_loss, new, ridge))
        with torch.no_grad():
            loss = float(selecting_loss(new))
        if loss < best_loss:
            best, best_loss = [part.detach().clone() for part in new], loss
    with torch.no_grad():
        for parameter, value in zip(parameters, best, strict=True):
            parameter.copy_(value)
    return {"before": before, "after": best_loss}


def _minimise(parameters: list[torch.Tensor], loss_of: Callable[[], torch.Tensor]) -> None:
    """Minimise a loss by L-BFGS with a line search, in place."""
    optimizer = torch.optim.LBFGS(parameters, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # pyright: ignore[reportArgumentType]


@torch.no_grad()
def _rows(
    model: TransformersModel,
    linear: nn.Linear,
    data: Encoded,
    positions: np.ndarray,
    dense_outputs: TeacherOutputs,
    target: Target,
    device: torch.device,
) -> HeadRows:
    """Return the linear's inputs and the dense model's logits of one batch."""
    batch = to_tensors(data.batch(positions), model, device)
    with captured_inputs(linear) as seen:
        own_logits = logits_of(model(**batch))
    inputs, dense_logits = seen[0].float(), dense_outputs.logits_batch(positions, own_logits).to(device)
    if inputs.ndim == 3 and own_logits.ndim == 2:  # the logits of a text are the mean of those of its tokens
        inputs = pooled(inputs, batch["attention_mask"], "mean")
    if target in TOKEN_LABELS:
        labeled = torch.from_numpy(data.targets(positions)).to(device) != IGNORED
        inputs, dense_logits = inputs[labeled], dense_logits[labeled]
    mask = batch["attention_mask"] if target == "span" else inputs.new_ones(len(inputs), 1)
    return HeadRows(inputs, dense_logits, mask)


def _joined(parts: list[HeadRows], target: Target) -> HeadRows:
    """Concatenate rows; those of spans are padded to one length."""
    if target == "span":
        longest = max(part.inputs.shape[1] for part in parts)
        parts = [_padded(part, longest - part.inputs.shape[1]) for part in parts]
    inputs, logits, mask = (torch.cat([getattr(part, name) for part in parts]) for name in ("inputs", "logits", "mask"))
    return HeadRows(inputs, logits, mask)


def _padded(rows: HeadRows, more: int) -> HeadRows:
    inputs, logits = functional.pad(rows.inputs, (0, 0, 0, more)), functional.pad(rows.logits, (0, 0, 0, more), value=MASKED_LOGIT)
    return HeadRows(inputs, logits, functional.pad(rows.mask, (0, more)))
