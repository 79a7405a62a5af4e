"""Refit what is left of a smaller model so that it computes what the dense one did: least squares, layer by layer, no training.

Going up the layers, each output projection is fitted on its kept inputs so that projection plus residual equals the
dense model's own sum before the LayerNorm (Kwon et al. 2022, arXiv 2204.09656, mask tuning, generalised to a full
least-squares fit with intercept). The student's own residual is taken off the target, so that each fit also corrects
the errors of the layers below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from compress.models.device import Batch
from compress.models.family import family_of
from compress.models.layers import Layer, encoder_layers, ffn_activation
from compress.models.low_rank import FactoredLinear
from compress.models.model_shape import model_shape

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)  # tried, relative to the inputs' mean square
HELD_OUT = 5  # every fifth batch judges the fit and is not fitted
KEPT_BYTES = 1 << 30  # of a teacher's sums in half precision, beyond which they are computed anew
Sums = tuple[torch.Tensor, torch.Tensor]
Part = TypeVar("Part")


def fairly_ordered(batches: Sequence[np.ndarray], seed: int) -> list[np.ndarray]:
    """Return batches of similar lengths in random order, so that every `HELD_OUT`-th is a fair sample; one alone is split in two."""
    parts = list(batches) if len(batches) > 1 else [part for part in np.array_split(batches[0], 2) if len(part)]
    return [parts[number] for number in np.random.default_rng(seed).permutation(len(parts))]


def held_out(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Return what is fitted on, and every `HELD_OUT`-th part, which judges the fit."""
    return [part for number, part in enumerate(parts) if number % HELD_OUT], list(parts[::HELD_OUT])


class Moments:
    """Sums from which a linear least-squares fit and its error follow: inputs X (n, k) and a one, targets Y (n, d).

    They are kept in float64 on the device of the rows.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device | None = None) -> None:
        self.xx = torch.zeros(inputs + 1, inputs + 1, dtype=torch.float64, device=device)
        self.xy = torch.zeros(inputs + 1, outputs, dtype=torch.float64, device=device)
        self.yy = 0.0
        self.count = 0

    def add(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add rows: inputs (n, k), targets (n, d)."""
        rows = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], dim=1)
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
        penalty = self.xx.new_zeros(size + 1)
        if size:
            penalty[:size] = ridge * self.xx.diagonal()[:size].mean().clamp_min(1e-12)
        penalty[size] = 1e-9 * max(1, self.count)
        factor, failed = torch.linalg.cholesky_ex(self.xx + torch.diag(penalty))
        wanted = self.xy + penalty.unsqueeze(1) * old
        if not failed:
            return torch.cholesky_solve(wanted, factor)
        singular = (self.xx + torch.diag(penalty)).cpu()  # on a GPU lstsq takes full ranks only
        return torch.linalg.lstsq(singular, wanted.cpu()).solution.to(wanted.device)


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
class Stream:
    """One model's hidden states on their way up, a batch each, with what a layer takes beside them."""

    states: list[torch.Tensor]
    rest: list[tuple[tuple[Any, ...], dict[str, Any]]]

    def step(self, layer: Layer, number: int) -> torch.Tensor:
        """Run a layer on batch `number`; returns its output (batch, length, hidden)."""
        arguments, options = self.rest[number]
        found = layer.module(self.states[number], *arguments, **options)
        return found[0] if isinstance(found, tuple) else found


class _Stop(Exception):
    """Ends a forward pass where what is wanted is there."""


def enter(model: Any, batches: Iterable[Batch]) -> Stream:
    """Run the embeddings only: what the first layer is given, for every batch."""
    stream = Stream([], [])
    shared = bool(family_of(model.config.model_type).position_bias)

    def catch(module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        if arguments:
            state, *rest = arguments
            if shared:  # one bias of relative positions for every text of the batch: it is kept once
                rest[1] = rest[1][:1].clone()
            stream.states.append(state)
            stream.rest.append((tuple(rest), options))
        else:
            options = dict(options)
            stream.states.append(options.pop("hidden_states"))
            stream.rest.append(((), options))
        raise _Stop

    hook = next(encoder_layers(model)).module.register_forward_pre_hook(catch, with_kwargs=True)
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
def inputs_of(*modules: nn.Module) -> Iterator[list[torch.Tensor]]:
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
def reconstruct(
    student: Any, teacher: Teacher, origins: Sequence[int] | None = None, advance: Callable[[], None] = lambda: None
) -> list[dict[str, float]]:
    """Refit every output projection of a pruned or factorized model against its dense teacher, in place.

    Args:
        student: the pruned (sliced) or factorized model in evaluation mode.
        teacher: the dense model with the calibration batches.
        origins: for each layer of the student, ascending, its position in the teacher; by default all.
        advance: called after each layer.

    Returns:
        For each layer the held-out mean squared error of the sum before its attention and output LayerNorms, before
        and after the fit: `attention_before`, `attention_after`, `ffn_before`, `ffn_after`.
    """
    masks = [batch["attention_mask"].bool() for batch in teacher.batches]
    lower = enter(student, teacher.batches)
    activation = ffn_activation(student)
    report = []
    found = list(encoder_layers(student))
    positions = set(range(len(found)) if origins is None else origins)
    asked = (sums for number, sums in enumerate(teacher.sums()) if number in positions)
    for small, wanted in zip(found, asked, strict=True):
        errors: dict[str, float] = {}
        contexts = [_context(lower, small, number) for number in range(len(masks))]
        first, last = _parts(small.attention_output)
        moments = _Split(last)
        for number, mask in enumerate(masks):
            moments.add(number, first(contexts[number][mask]), wanted[number][0] - lower.states[number][mask])
        errors["attention_before"], errors["attention_after"] = refit(last, *moments.parts)
        for number, context in enumerate(contexts):
            lower.states[number] = small.attention_norm(small.attention_output(context) + lower.states[number])
        del contexts
        first, last = _parts(small.ffn_out)
        moments = _Split(last)
        for number, mask in enumerate(masks):
            state = lower.states[number][mask]
            moments.add(number, first(activation(small.ffn_in(state))), wanted[number][1] - state)
        errors["ffn_before"], errors["ffn_after"] = refit(last, *moments.parts)
        for number, state in enumerate(lower.states):
            lower.states[number] = small.output_norm(small.ffn_out(activation(small.ffn_in(state))) + state)
        report.append(errors)
        advance()
    return report


def _parts(linear: Any) -> tuple[nn.Module, nn.Linear]:
    """Return what comes before the matrix that is fitted, and that one: of a factorized linear the last."""
    return (linear.down, linear.up) if isinstance(linear, FactoredLinear) else (nn.Identity(), linear)


class _Split:
    """The moments of a linear's inputs and wanted outputs: those to fit on, and those that judge the fit."""

    def __init__(self, linear: nn.Linear) -> None:
        self.parts = [Moments(linear.in_features, linear.out_features, linear.weight.device) for _ in range(2)]

    def add(self, number: int, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Add the rows of batch `number`: inputs (n, k), targets (n, d)."""
        self.parts[number % HELD_OUT == 0].add(inputs.float(), targets.float())


def _context(stream: Stream, layer: Layer, number: int) -> torch.Tensor:
    """Run a layer up to the input of its attention's output projection, (batch, length, heads * head_size)."""

    def stop(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        raise _Stop(arguments[0])

    hook = layer.attention_output.register_forward_pre_hook(stop)
    try:
        stream.step(layer, number)
    except _Stop as found:
        return found.args[0]
    finally:
        hook.remove()
    raise AssertionError("a layer that never projects its attention")


class Teacher:
    """A dense model on calibration batches: what every layer's sums before its LayerNorms are.

    They are kept in half precision where they fit `KEPT_BYTES`, so that later fits need no pass of the dense model, and
    computed layer by layer where not; either way the batches' hidden states are all that is held of the model itself.

    Args:
        model: the dense model in evaluation mode, on the device of the batches.
        batches: calibration inputs, at least two.
    """

    def __init__(self, model: Any, batches: Sequence[Batch]) -> None:
        self.model, self.batches = model, batches
        shape = model_shape(model)
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        self._kept: list[list[Sums]] | None = [] if 4 * tokens * shape.hidden * len(shape.layers) <= KEPT_BYTES else None

    def sums(self) -> Iterator[list[Sums]]:
        """Yield, layer by layer, each batch's sums before the attention and the output LayerNorm, (tokens, hidden) each."""
        if self._kept:
            for layer in self._kept:
                yield [(first.float(), second.float()) for first, second in layer]
            return
        masks = [batch["attention_mask"].bool() for batch in self.batches]
        upper = enter(self.model, self.batches)
        kept = []
        for layer in encoder_layers(self.model):
            found: list[Sums] = []
            for number, mask in enumerate(masks):
                with inputs_of(layer.attention_norm, layer.output_norm) as sums:
                    upper.states[number] = upper.step(layer, number)
                found.append((sums[0][mask].float(), sums[1][mask].float()))
            if self._kept is not None:
                kept.append([(first.half(), second.half()) for first, second in found])
            yield found
        if self._kept is not None:
            self._kept = kept
