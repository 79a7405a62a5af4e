"""Refit the last linear of a pruned model's head to the dense model's answers: a convex fit, with no gradient below it.

Least squares by layers ([reconstruct.py](../model/reconstruct.py)) bring hidden states near the dense model's, but what is
left of their error is no noise to the head: it makes answers too sure, or leans them to one side. The linear that makes the
logits is fitted to the dense model's distribution itself (soft labels, Hinton et al. 2015, arXiv 1503.02531, eq. 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from compress.data.encoded import IGNORED, Encoded
from compress.data.input_spec import Target
from compress.distill.cache import TeacherOutputs
from compress.distill.losses import FAR_BELOW, logits_loss
from compress.editing.layerwise import captured_inputs
from compress.editing.least_squares import split_held_out
from compress.models.device import to_tensors
from compress.models.family import family_of
from compress.models.layers import find_submodule
from compress.models.task_loss import logits_of

RIDGES = (1e-2, 1e-3, 1e-4, 1e-5)  # from stiff to loose, each fit starting where the one before ended
ITERATIONS = 30


@dataclass
class Rows:
    """What goes into a head's last linear, and the logits that are wanted of it.

    Attributes:
        inputs: (n, k); of spans (n, length, k).
        wanted: (n, logits); of spans (n, length, 2).
        mask: (n, length) of spans, 0 at padding; else (n, 1) of ones.
    """

    inputs: torch.Tensor
    wanted: torch.Tensor
    mask: torch.Tensor

    def error(self, weight: torch.Tensor, bias: torch.Tensor, target: Target) -> torch.Tensor:
        """Return the mean loss of `inputs weight' + bias` against the logits that are wanted, convex in weight and bias."""
        rows: Target = "class" if target == "tags" else target  # a row is a token that is asked for
        return logits_loss(functional.linear(self.inputs, weight, bias), self.wanted, self.mask, self.mask, rows, 1.0)


def refit_readout(
    model: Any, data: Encoded, batches: Sequence[np.ndarray], answers: TeacherOutputs, target: Target, device: torch.device
) -> dict[str, float]:
    """Refit the last linear of a model's head to the dense model's logits, in place; keep it where no fit is better.

    Args:
        model: the smaller model, in evaluation mode.
        data: the calibration texts; of the labels only those of tags matter: what is not asked for (-100) is left out.
        batches: their positions by batches in random order, two at least; `held_out` of them judge and are not fitted.
        answers: the dense model's logits of `data`.
        target: what the logits answer.
        device: where to compute.

    Returns:
        The held-out mean loss `before` and `after` (`compress.distill.losses.logits_loss`, temperature 1).
    """
    linear = find_submodule(model.to(device), family_of(model.config.model_type).last_linear(target))
    gathered = [_rows(model, linear, data, positions, answers, target, device) for positions in batches]
    fitted, judging = split_held_out(gathered)
    return refit_linear(linear, _joined(fitted, target), _joined(judging, target), target)


def refit_linear(linear: nn.Linear, fitted: Rows, judging: Rows, target: Target) -> dict[str, float]:
    """Fit a linear's weight and bias to the logits that are wanted of it, the ridge chosen on held-out rows.

    Minimises `loss + r |W - W_old|^2` by L-BFGS, the bias free.

    Returns:
        The held-out mean loss `before` and `after`.
    """
    old = [linear.weight.detach().clone(), linear.bias.detach().clone()]
    with torch.no_grad():
        before = float(judging.error(old[0], old[1], target))
    best, best_error = old, before
    weight, bias = (part.clone().requires_grad_() for part in old)
    for ridge in RIDGES:

        def loss_of(ridge: float = ridge) -> torch.Tensor:
            return fitted.error(weight, bias, target) + ridge * (weight - old[0]).square().sum()

        _minimise([weight, bias], loss_of)
        with torch.no_grad():
            error = float(judging.error(weight, bias, target))
        if error < best_error:
            best, best_error = [weight.detach().clone(), bias.detach().clone()], error
    with torch.no_grad():
        linear.weight.copy_(best[0])
        linear.bias.copy_(best[1])
    return {"before": before, "after": best_error}


def _minimise(parameters: list[torch.Tensor], loss_of: Callable[[], torch.Tensor]) -> None:
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
    model: Any, linear: nn.Linear, data: Encoded, positions: np.ndarray, answers: TeacherOutputs, target: Target, device: torch.device
) -> Rows:
    batch = to_tensors(data.batch(positions), model, device)
    with captured_inputs(linear) as seen:
        logits = logits_of(model(**batch))
    inputs, wanted = seen[0].float(), answers.logits_batch(positions, logits).to(device)
    if target == "tags":
        asked = torch.from_numpy(data.targets(positions)).to(device) != IGNORED
        inputs, wanted = inputs[asked], wanted[asked]
    mask = batch["attention_mask"] if target == "span" else inputs.new_ones(len(inputs), 1)
    return Rows(inputs, wanted, mask)


def _joined(parts: list[Rows], target: Target) -> Rows:
    """Join rows; those of spans are padded to one length."""
    if target == "span":
        longest = max(part.inputs.shape[1] for part in parts)
        parts = [_padded(part, longest - part.inputs.shape[1]) for part in parts]
    inputs, wanted, mask = (torch.cat([getattr(part, name) for part in parts]) for name in ("inputs", "wanted", "mask"))
    return Rows(inputs, wanted, mask)


def _padded(rows: Rows, more: int) -> Rows:
    inputs, wanted = functional.pad(rows.inputs, (0, 0, 0, more)), functional.pad(rows.wanted, (0, 0, 0, more), value=FAR_BELOW)
    return Rows(inputs, wanted, functional.pad(rows.mask, (0, more)))
