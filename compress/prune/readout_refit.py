"""Readout refit of an embedder: fit the last weights before its vectors to the dense model's vectors.

What the refit of a head's last linear is for logits ([head_refit.py](head_refit.py)). An embedder's last weights are those of its last
dense layer or, without one, the gain and the bias of the encoder's last LayerNorm. The token vectors before the gain are pooled once: every
pooling but the maximum is linear in gain and bias, so that each step of the fit costs no pass of the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from compress.data.encoded import Encoded
from compress.distill.losses import logits_loss
from compress.distill.teacher_outputs import TeacherOutputs
from compress.editing.layerwise import captured_inputs
from compress.editing.least_squares import split_held_out
from compress.models.biases import require_bias
from compress.models.device import to_tensors
from compress.models.embedder import head_of, last_dense, pooled
from compress.models.family import family_of
from compress.models.layers import last_norm
from compress.models.norms import is_rms_norm, standardized
from compress.models.token_reduction import kept_after
from compress.models.types import TransformersModel
from compress.prune.head_refit import fit_parameters

Parameters = Sequence[torch.Tensor]


@dataclass
class ReadoutRows:
    """The inputs of a readout, and the dense model's vectors for them.

    Attributes:
        states: pooled token vectors, (n, modes, hidden); without gain and bias if these are fitted.
        ones: what pooling makes of a vector of ones, (n, modes, 1): the factor of the bias.
        vectors: of the dense model, (n, size).
    """

    states: torch.Tensor
    ones: torch.Tensor
    vectors: torch.Tensor


def refit_readout(
    model: TransformersModel, data: Encoded, batches: Sequence[np.ndarray], dense_outputs: TeacherOutputs, device: torch.device
) -> dict[str, float]:
    """Refit the last weights of an embedder, in place; keep the old ones if no fit is better on held-out texts.

    Minimises `|s - t|^2 / |t|^2 + r |w - w_old|^2 / |w_old|^2` by L-BFGS, with the ridge that is best on held-out texts.

    Args:
        model: the pruned embedder, in evaluation mode.
        data: the calibration texts.
        batches: positions of its batches in random order, two at least; `split_held_out` of them select the fit.
        dense_outputs: the dense model's vectors of `data`.
        device: where to compute.

    Returns:
        The loss on held-out texts `before` and `after`; empty for a pooling by the maximum, without a dense layer.
    """
    parameters = readout_parameters(model.to(device))
    if not parameters:
        return {}
    fitted, selecting = (_joined(part) for part in split_held_out([_rows(model, data, at, dense_outputs, device) for at in batches]))
    old = [parameter.detach().clone() for parameter in parameters]
    scale = sum(float(part.square().sum()) for part in old)

    def fitted_loss(new: Parameters, ridge: float) -> torch.Tensor:
        moved = torch.stack([(part - start).square().sum() for part, start in zip(new, old, strict=True)]).sum()
        return _loss(model, fitted, new) + ridge * moved / scale

    return fit_parameters(parameters, fitted_loss, lambda new: _loss(model, selecting, new))


def readout_parameters(model: TransformersModel) -> list[nn.Parameter]:
    """Return the weights that are fitted: of the last dense layer, or else gain and bias of the last LayerNorm; none for a maximum."""
    if (dense := last_dense(model)) is not None:
        return list(dense.linear.parameters())
    norm = last_norm(model)
    if "max" in head_of(model.config).pooling:
        return []
    return [norm.weight] if is_rms_norm(norm) else [norm.weight, require_bias(norm)]


def _loss(model: TransformersModel, rows: ReadoutRows, parameters: Parameters) -> torch.Tensor:
    """Return the loss of the vectors that these parameters give."""
    steps: Any = model.steps
    dense = last_dense(model)
    states = rows.states if dense else rows.states * parameters[0]
    vectors = (states + rows.ones * parameters[1] if not dense and len(parameters) > 1 else states).flatten(1)
    for step in steps:
        if step is dense:
            names = [f"linear.{name}" for name, _ in step.linear.named_parameters()]
            vectors = functional_call(step, dict(zip(names, parameters, strict=True)), (vectors,))
        else:
            vectors = step(vectors)
    mask = vectors.new_ones(len(vectors), 1)
    return logits_loss(vectors, rows.vectors, mask, mask, "vector", 1.0)


@torch.no_grad()
def _rows(
    model: TransformersModel, data: Encoded, positions: np.ndarray, dense_outputs: TeacherOutputs, device: torch.device
) -> ReadoutRows:
    """Run one batch, and pool the inputs of the readout."""
    batch = to_tensors(data.batch(positions), model, device)
    norm, modes = last_norm(model), head_of(model.config).pooling
    with captured_inputs(norm) as seen:
        own = model(**batch).logits
    fits_norm = readout_parameters(model)[0] is norm.weight
    states = standardized(norm, seen[0].float()) if fits_norm else norm(seen[0].float())
    encoder = getattr(model, family_of(model.config.model_type).encoder)
    ones, mask = torch.ones_like(states[..., :1]), kept_after(encoder, batch["attention_mask"])
    parts, factors = (torch.stack([pooled(value, mask, mode) for mode in modes], dim=1) for value in (states, ones))
    return ReadoutRows(parts, factors, dense_outputs.logits_batch(positions, own).to(device))


def _joined(parts: Sequence[ReadoutRows]) -> ReadoutRows:
    states, ones, vectors = (torch.cat([getattr(part, name) for part in parts]) for name in ("states", "ones", "vectors"))
    return ReadoutRows(states, ones, vectors)
