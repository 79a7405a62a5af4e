"""What the linears of a model are given, and what their outputs are worth, in one stream over calibration batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from compress.editing.gradients import activation_gradients
from compress.editing.layerwise import captured_inputs
from compress.models.device import Batch
from compress.models.low_rank import encoder_linears


@dataclass
class Statistics:
    """Sums over tokens of their weight w, of `w x` (in,) and `w x x'` (in, in), for inputs x of a linear.

    `outputs` (out, out) is the sum of `g g'` over that of `|g|^2`, with g the loss's gradient by the output and w = |g|^2:
    the Kronecker factors of its Fisher information (van der Ouderaa et al. 2024, arXiv 2312.17244, eq. 6). Without it w = 1.
    """

    gram: torch.Tensor
    total: torch.Tensor
    weight: float = 0.0
    outputs: torch.Tensor | None = None

    @classmethod
    def empty(cls, linear: Any, outputs: bool) -> Statistics:
        """Start with no tokens."""
        size = linear.in_features
        found = torch.zeros(linear.out_features, linear.out_features) if outputs else None
        return cls(torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64), 0.0, found)

    def add(self, rows: torch.Tensor, slopes: torch.Tensor | None = None) -> None:
        """Add tokens: inputs (n, in), and gradients by the outputs (n, out) where those are weighed."""
        rows = rows.float()
        if slopes is not None and self.outputs is not None:
            weights = slopes.float().norm(dim=1)
            counted = weights > 0  # a token that the loss does not depend on (padding) counts for nothing
            rows, slopes, weights = rows[counted], slopes[counted].float(), weights[counted]
            self.outputs += (slopes.T @ slopes).cpu()
            scaled = rows * weights.unsqueeze(1)
            total, weight = weights @ scaled, float(weights.square().sum())
        else:
            scaled, total, weight = rows, rows.sum(0), float(len(rows))
        self.gram += (scaled.T @ scaled).double().cpu()
        self.total += total.double().cpu()
        self.weight += weight

    def close(self) -> Statistics:
        """Scale the outputs' matrix to a trace of one, once all tokens are there."""
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


@torch.no_grad()
def activation_statistics(model: Any, batches: Sequence[Batch], advance: Callable[[], None] = lambda: None) -> list[Statistics]:
    """Return what every linear is given, in the order of `linears`; padding does not count.

    Args:
        model: in evaluation mode.
        batches: calibration inputs, on its device.
        advance: called after each batch.
    """
    modules = [linear for _, _, linear in encoder_linears(model)]
    found = [Statistics.empty(linear, outputs=False) for linear in modules]
    for batch in batches:
        with captured_inputs(*modules) as seen:
            model(**batch)
        mask = batch["attention_mask"].bool()
        for statistics, rows in zip(found, seen, strict=True):
            statistics.add(rows[mask])
        advance()
    return found


def fisher_statistics(
    model: Any, batches: Iterable[Any], loss_of: Callable[[Any], torch.Tensor], advance: Callable[[], None] = lambda: None
) -> list[Statistics]:
    """Return what every linear is given and what its outputs are worth, in the order of `linears`.

    Args:
        model: in evaluation mode.
        batches: whatever `loss_of` takes.
        loss_of: the loss of one batch, summed over its examples, with labels drawn from the model's own distribution.
        advance: called after each batch.
    """
    modules = [linear for _, _, linear in encoder_linears(model)]
    found = [Statistics.empty(linear, outputs=True) for linear in modules]
    for pairs in activation_gradients(model, modules, batches, loss_of, outputs=True):
        for statistics, (rows, slopes) in zip(found, pairs, strict=True):
            statistics.add(rows.flatten(0, -2), slopes.flatten(0, -2))
        advance()
    return [statistics.close() for statistics in found]
