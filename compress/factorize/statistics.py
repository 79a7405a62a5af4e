"""Statistics of linears: moments of their inputs, and the Fisher information of their outputs, over calibration batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from compress.editing.gradients import BatchT, activation_gradients
from compress.editing.layerwise import captured_inputs
from compress.models.device import Batch
from compress.models.low_rank import encoder_linears
from compress.models.types import TransformersModel


@dataclass
class Statistics:
    """Sums over tokens, for the inputs x of a linear, each token with a weight w.

    With `outputs`, w = |g|^2 for g the loss's gradient with respect to the output, and the two matrices are the Kronecker factors of
    the Fisher information (van der Ouderaa et al. 2024, arXiv 2312.17244, eq. 6). Without it, w = 1.

    Attributes:
        gram: (in, in), the sum of `w x x'`.
        total: (in,), the sum of `w x`.
        weight: the sum of w.
        outputs: (out, out), the sum of `g g'` over the sum of `|g|^2`.
    """

    gram: torch.Tensor
    total: torch.Tensor
    weight: float = 0.0
    outputs: torch.Tensor | None = None

    @classmethod
    def empty(cls, linear: nn.Linear, outputs: bool) -> Statistics:
        """Start with no tokens."""
        size = linear.in_features
        fisher = torch.zeros(linear.out_features, linear.out_features) if outputs else None
        return cls(torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64), 0.0, fisher)

    def add(self, rows: torch.Tensor, gradients: torch.Tensor | None = None) -> None:
        """Add tokens: inputs (n, in), and the gradients of the outputs (n, out) if these have statistics."""
        rows = rows.float()
        if gradients is not None and self.outputs is not None:
            weights = gradients.float().norm(dim=1)
            relevant = weights > 0  # a token without influence on the loss (padding) is ignored
            rows, gradients, weights = rows[relevant], gradients[relevant].float(), weights[relevant]
            self.outputs += (gradients.T @ gradients).cpu()
            scaled = rows * weights.unsqueeze(1)
            total, weight = weights @ scaled, float(weights.square().sum())
        else:
            scaled, total, weight = rows, rows.sum(0), float(len(rows))
        self.gram += (scaled.T @ scaled).double().cpu()
        self.total += total.double().cpu()
        self.weight += weight

    def close(self) -> Statistics:
        """Scale the outputs' matrix to a trace of one, after the last token; returns itself."""
        if self.outputs is not None:
            self.outputs /= self.outputs.diagonal().sum().clamp_min(1e-30)
        return self

    @property
    def mean(self) -> torch.Tensor:
        """The inputs' mean, (in,)."""
        return self.total / max(self.weight, 1e-30)

    def centred(self) -> torch.Tensor:
        """The sum of `w (x - mean)(x - mean)'`, (in, in)."""
        return self.gram - torch.outer(self.total, self.mean)


def dense_linears(model: TransformersModel) -> list[tuple[int, str, nn.Linear]]:
    """Return layer, role and module of all linears that are not factorized, from the first layer to the last."""
    return [(number, role, linear) for number, role, linear in encoder_linears(model) if isinstance(linear, nn.Linear)]


@torch.no_grad()
def activation_statistics(
    model: TransformersModel, batches: Sequence[Batch], advance: Callable[[], None] = lambda: None
) -> list[Statistics]:
    """Return the input statistics of every linear, in the order of `dense_linears`; padding is ignored.

    Args:
        model: in evaluation mode.
        batches: calibration inputs, on its device.
        advance: called after each batch.
    """
    modules = [linear for _, _, linear in dense_linears(model)]
    collected = _empty(modules, outputs=False)
    for batch in batches:
        with captured_inputs(*modules) as seen:
            model(**batch)
        mask = batch["attention_mask"].bool()
        for statistics, rows in zip(collected, seen, strict=True):
            statistics.add(rows[mask])
        advance()
    return collected


def fisher_statistics(
    model: TransformersModel,
    batches: Iterable[BatchT],
    loss_of: Callable[[BatchT], torch.Tensor],
    advance: Callable[[], None] = lambda: None,
) -> list[Statistics]:
    """Return the input and output statistics of every linear, in the order of `dense_linears`.

    Args:
        model: in evaluation mode.
        batches: whatever `loss_of` takes.
        loss_of: the loss of one batch, summed over its examples, with labels drawn from the model's own distribution.
        advance: called after each batch.
    """
    modules = [linear for _, _, linear in dense_linears(model)]
    collected = _empty(modules, outputs=True)
    for pairs in activation_gradients(model, modules, batches, loss_of, outputs=True):
        for statistics, (rows, gradients) in zip(collected, pairs, strict=True):
            statistics.add(rows.flatten(0, -2), gradients.flatten(0, -2))
        advance()
    for statistics in {id(each): each for each in collected}.values():
        statistics.close()
    return collected


def _empty(linears: Sequence[nn.Linear], outputs: bool) -> list[Statistics]:
    """Return statistics without tokens; linears that share their weight have theirs in common."""
    by_weight: dict[int, Statistics] = {}
    return [by_weight.setdefault(id(linear.weight), Statistics.empty(linear, outputs)) for linear in linears]
