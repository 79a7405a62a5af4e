"""Refit what is left of a pruned model so that it computes what the dense one did: least squares, layer by layer, no training.

Going up the layers, each output projection is fitted on its kept inputs so that projection plus residual equals the
dense model's own sum before the LayerNorm (Kwon et al. 2022, arXiv 2204.09656, mask tuning, generalised to a full
least-squares fit with intercept). The student's own residual is taken off the target, so that each fit also corrects
the errors of the layers below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compress.model.device import Batch
from compress.model.family import Layer, layers

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)  # tried, relative to the inputs' mean square
HELD_OUT = 5  # every fifth batch judges the fit and is not fitted


class Moments:
    """Sums from which a linear least-squares fit and its error follow: inputs X (n, k) and a one, targets Y (n, d)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.xx = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64)
        self.xy = torch.zeros(inputs + 1, outputs, dtype=torch.float64)
        self.yy = 0.0
        self.count = 0

    def add(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add rows: inputs (n, k), targets (n, d)."""
        ones = torch.ones(len(inputs), 1)
        rows = torch.cat([inputs, ones], dim=1)
        self.xx += (rows.T @ rows).double()
        self.xy += (rows.T @ targets).double()
        self.yy += float(targets.double().square().sum())
        self.count += len(inputs)

    def error(self, solution: torch.Tensor) -> float:
        """Return the mean squared error of Y ~ [X 1] solution, with solution (k + 1, d)."""
        fitted = (solution * (self.xx @ solution)).sum() - 2 * (solution * self.xy).sum()
        return (float(fitted) + self.yy) / max(1, self.count)

    def solve(self, old: torch.Tensor, ridge: float) -> torch.Tensor:
        """Return argmin |[X 1] S - Y|^2 + r |S - old|^2, the intercept free, (k + 1, d).

        `r` is `ridge` times the mean square of the inputs, so that one ridge means the same everywhere.
        """
        size = len(self.xx) - 1
        penalty = torch.zeros(size + 1, dtype=torch.float64)
        if size:
            penalty[:size] = ridge * self.xx.diagonal()[:size].mean().clamp_min(1e-12)
        penalty[size] = 1e-9 * max(1, self.count)
        return torch.linalg.solve(self.xx + torch.diag(penalty), self.xy + penalty.unsqueeze(1) * old)


def refit(linear: nn.Linear, fitted: Moments, held_out: Moments) -> tuple[float, float]:
    """Fit a linear's weight and bias; keep the old ones where no fit is better on the held-out rows.

    Returns:
        The held-out mean squared error before and after.
    """
    old = torch.cat([linear.weight.detach().T, linear.bias.detach().unsqueeze(0)]).double()
    before = held_out.error(old)
    best, best_error = old, before
    for ridge in RIDGES:
        candidate = fitted.solve(old, ridge)
        error = held_out.error(candidate)
        if error < best_error:
            best, best_error = candidate, error
    with torch.no_grad():
        linear.weight.copy_(best[:-1].T.float())
        linear.bias.copy_(best[-1].float())
    return before, best_error


@dataclass
class _Stream:
    """One model's hidden states on their way up, a batch each, with what a layer takes beside them."""

    states: list[torch.Tensor]
    rest: list[tuple[tuple[Any, ...], dict[str, Any]]]

    def step(self, layer: Layer, number: int, tensor: torch.Tensor | None = None) -> torch.Tensor:
        """Run a layer on batch `number`; returns its output (batch, length, hidden)."""
        arguments, options = self.rest[number]
        found = layer.module(self.states[number] if tensor is None else tensor, *arguments, **options)
        return found[0] if isinstance(found, tuple) else found


class _Stop(Exception):
    """Ends a forward pass at the first layer."""


def _enter(model: Any, batches: Iterable[Batch]) -> _Stream:
    """Run the embeddings only: what the first layer is given, for every batch."""
    stream = _Stream([], [])

    def catch(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        if arguments:
            stream.states.append(arguments[0])
            stream.rest.append((arguments[1:], options))
        else:
            options = dict(options)
            stream.states.append(options.pop("hidden_states"))
            stream.rest.append(((), options))
        raise _Stop

    hook = next(layers(model)).module.register_forward_pre_hook(catch, with_kwargs=True)
    try:
        for batch in batches:
            try:
                model(**batch)
            except _Stop:
                continue
    finally:
        hook.remove()
    return stream


@contextmanager
def _inputs_of(*modules: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect, in order, the first input of each module as a layer runs."""
    seen: list[torch.Tensor] = [torch.empty(0)] * len(modules)

    def keep(position: int) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            seen[position] = arguments[0]

        return hook

    hooks = [module.register_forward_pre_hook(keep(position)) for position, module in enumerate(modules)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def reconstruct(student: Any, teacher: Any, batches: Sequence[Batch], advance: Callable[[], None] = lambda: None) -> list[dict[str, float]]:
    """Refit every output projection of a pruned model against its dense teacher, in place.

    Args:
        student: the pruned (sliced) model in evaluation mode, its layers those of the teacher.
        teacher: the dense model in evaluation mode.
        batches: calibration inputs of both, on their device; at least two.
        advance: called after each layer.

    Returns:
        For each layer the held-out mean squared error of the sum before its attention and output LayerNorms, before
        and after the fit: `attention_before`, `attention_after`, `ffn_before`, `ffn_after`.
    """
    masks = [batch["attention_mask"].bool() for batch in batches]
    lower, upper = _enter(student, batches), _enter(teacher, batches)
    report = []
    for small, large in zip(layers(student), layers(teacher), strict=True):
        wanted: list[tuple[torch.Tensor, torch.Tensor]] = []
        for number in range(len(batches)):
            with _inputs_of(large.attention_norm, large.output_norm) as sums:
                upper.states[number] = upper.step(large, number)
            wanted.append((sums[0], sums[1]))
        errors: dict[str, float] = {}
        for part, linear, norm in (("attention", small.attention_output, 0), ("ffn", small.ffn_out, 1)):
            moments = [Moments(linear.in_features, linear.out_features) for _ in range(2)]
            for number, mask in enumerate(masks):
                with _inputs_of(linear, small.ffn_in) as seen:
                    lower.step(small, number)
                residual = lower.states[number] if norm == 0 else seen[1]
                target = wanted[number][norm] - residual
                moments[number % HELD_OUT == 0].add(seen[0][mask].float().cpu(), target[mask].float().cpu())
            errors[f"{part}_before"], errors[f"{part}_after"] = refit(linear, *moments)
        for number in range(len(batches)):
            lower.states[number] = lower.step(small, number)
        report.append(errors)
        advance()
    return report
