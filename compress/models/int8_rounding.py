"""A model that rounds as its static int8 graph does: weights by output channel, inputs of matmuls to 256 levels, embeddings by row.

The rounding is that of Jacob et al. 2018 (arXiv 1712.05877, eq. 1); its gradient goes straight through, and the scale of an activation
is learned as in LSQ (Esser et al. 2020, arXiv 1902.08153, eq. 3). Everything else (residuals, norms, scores of attention) is float, as in
the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from compress.core.errors import ModelError
from compress.models.adapters import refuse_adapters
from compress.models.biases import bias_or_zeros
from compress.models.family import family_of
from compress.models.int8_ranges import TABLE_ROWS, WEIGHT_LEVELS, Range, affine, range_of
from compress.models.layers import encoder_layers, find_submodule
from compress.models.low_rank import FactoredEmbedding, word_embeddings
from compress.models.named_linears import NamedLinear, named_linears
from compress.models.types import TransformersModel

LEVELS = 255
LARGEST_BIAS = 2**30  # in units of its scale; larger biases stay float


def rounded(values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return values rounded to multiples of a scale; the gradient goes straight through."""
    with torch.no_grad():
        nearest = torch.round(values / scale) * scale
    return values + (nearest - values).detach() if torch.is_grad_enabled() else nearest


def row_scales(rows: torch.Tensor) -> torch.Tensor:
    """Return the scale of int8 for each of the rows (..., in), symmetric: (..., 1)."""
    scales = rows.detach().abs().amax(dim=-1, keepdim=True) / WEIGHT_LEVELS
    return torch.where(scales == 0, 1.0, scales)


class ActivationRounding(nn.Module):
    """Rounds values to the 256 levels of a range; its width is learned, as a factor `exp(log_factor)`, if `learned`."""

    def __init__(self, limits: Range, learned: bool) -> None:
        super().__init__()
        scale, zero = affine(limits, symmetric=False)
        self.scale, self.zero = float(scale), int(zero)
        self.log_factor = nn.Parameter(torch.zeros(1), requires_grad=learned)
        self.readers = 0
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None

    def forward(self, values: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        """Return `values + shift` rounded, float32, the same shape; what query, key and value read is rounded once."""
        last = self._last  # read once: several threads may run the model
        if last is not None and last[0] is values:
            return last[1]
        result = self._rounded(values.float() if shift is None else values.float() + shift)
        if self.readers > 1:
            self._last = values, result
        return result

    def width(self) -> torch.Tensor:
        """Return the distance of two levels, (1,)."""
        return self.scale * torch.exp(self.log_factor)

    def _rounded(self, values: torch.Tensor) -> torch.Tensor:
        scale = self.width()
        if scale.requires_grad:
            share = 1 / math.sqrt(values.numel() * LEVELS)  # LSQ's scale of the gradient
            scale = share * scale + ((1 - share) * scale).detach()
        steps = values / scale
        codes = torch.clamp(steps + (torch.round(steps) - steps).detach(), -self.zero, LEVELS - self.zero)
        return codes * scale

    def range(self) -> Range:
        """Return the range as it is now."""
        return range_of(float(self.width().detach()), self.zero)


class RoundedLinear(nn.Linear):
    """A linear whose weight, bias and input are rounded; it has the parameters of the linear that it replaces.

    A bias has the units of the products that it is added to, int32 (Jacob et al. 2018, eq. 11).

    Args:
        linear: the linear.
        rounding: of its input.
        named: its place in the graph.
        modules: by path: those whose biases the graph has added to inputs; rounding happens after that.
        once: only the first call of a forward pass is rounded; see `_round_contents_only`.
    """

    def __init__(
        self, linear: nn.Linear, rounding: ActivationRounding, named: NamedLinear, modules: Mapping[str, nn.Linear], once: bool = False
    ) -> None:
        nn.Module.__init__(self)  # nn.Linear's would create new weights
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.rounding, self.named, self.once, self.is_fresh = rounding, named, once, True
        self.added = [modules[named.added]] if named.added else []  # in lists: they are no parts of this module
        self.removed = [modules[path] for path in named.removed]
        rounding.readers += 1

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (..., out) for (..., in)."""
        if self.once and not self.is_fresh:
            return functional.linear(input, self.weight, self.bias)
        self.is_fresh = False
        shift = bias_or_zeros(self.added[0]).detach() if self.added else None
        if self.named.first_only and input.ndim > 2:
            first, rest = self.rounding(input[:, :1], shift), input[:, 1:].float()
            input = torch.cat([first, rest if shift is None else rest + shift], dim=1)
        else:
            input = self.rounding(input, shift)
        scales = row_scales(self.weight)
        return functional.linear(input, rounded(self.weight, scales), self._bias(scales[:, 0]))

    def _bias(self, scales: torch.Tensor) -> torch.Tensor | None:
        """Return the bias, less what was added to the input, rounded where the matmul adds it; `scales` are the weight's, (out,)."""
        bias = self.bias
        if self.removed:
            effect = bias_or_zeros(self.removed[0]).detach()
            for linear in self.removed[1:]:
                effect = linear.weight @ effect
            bias = bias_or_zeros(self) - self.weight @ effect
        if bias is None or not self.named.adds_bias:
            return bias
        units = self.rounding.width().detach() * scales
        return rounded(bias, units) if bool((bias.detach().abs() / units).max() < LARGEST_BIAS) else bias


class Int8Rounding:
    """The rounding of a model, until `remove` is called.

    Attributes:
        activations: by the name of the matmul in the graph.
    """

    def __init__(self, activations: dict[str, ActivationRounding], undo: list[Callable[[], object]]) -> None:
        self.activations, self._undo = activations, undo

    def ranges(self) -> dict[str, Range]:
        """Return the ranges as they are now."""
        return {name: rounding.range() for name, rounding in self.activations.items()}

    def remove(self) -> None:
        """Let the model compute with floats again."""
        for undo in reversed(self._undo):
            undo()
        self._undo = []


def round_to_int8(model: TransformersModel, ranges: Mapping[str, Range], learned: bool = False) -> Int8Rounding:
    """Let a model compute as its static int8 graph with these ranges, in place, until the rounding is removed.

    Args:
        model: with transformer layers, of any shape.
        ranges: by the names of the graph's matmuls; other linears stay float.
        learned: the ranges are parameters of the model.

    Raises:
        ModelError: the model has no such matmul.
        UsageError: it has adapters.
    """
    refuse_adapters(model, "int8 rounding")
    linears = named_linears(model)
    if unknown := [name for name in ranges if name not in linears]:
        raise ModelError(
            f"the int8 ranges in config.json do not fit the model: it has no matmul '{unknown[0]}'",
            "remove the entry 'compress_int8_ranges', or distill it again with --quantize int8",
        )
    by_value: dict[tuple[str, Range], ActivationRounding] = {}
    activations: dict[str, ActivationRounding] = {}
    replaced: list[Callable[[], object]] = []
    modules = {path: module for path, module in model.named_modules() if isinstance(module, nn.Linear)}
    disentangled = family_of(model.config.model_type).disentangled
    for name, limits in ranges.items():
        named = linears[name]
        value = named.value, limits
        if value not in by_value:
            by_value[value] = ActivationRounding(limits, learned).to(model.device)
        rounding = activations[name] = by_value[value]
        linear = model.get_submodule(named.path)
        once = disentangled and ".attention." in name and named.added != ""
        module = RoundedLinear(linear, rounding, named, modules, once)  # pyright: ignore[reportArgumentType]
        replaced.append(_replace(model, named, module.train(linear.training)))
    if disentangled:
        replaced += _round_contents_only(model)
    replaced += _round_words(model)
    return Int8Rounding(activations, replaced)


def _replace(model: TransformersModel, named: NamedLinear, module: nn.Module) -> Callable[[], object]:
    """Replace a linear; returns what puts it back."""
    parent, _, name = named.path.rpartition(".")
    holder, before = model.get_submodule(parent), model.get_submodule(named.path)
    setattr(holder, name, module)
    return lambda: setattr(holder, name, before.train(module.training))


def _round_words(model: TransformersModel) -> list[Callable[[], object]]:
    """Round the rows of a large table of word embeddings; returns what ends that."""
    words = word_embeddings(model)
    table = words.table if isinstance(words, FactoredEmbedding) else words
    if table.num_embeddings < TABLE_ROWS:
        return []
    return [table.register_forward_hook(_rounded_output).remove]


def _rounded_output(module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
    """Round the rows that an embedding table returns."""
    return rounded(output, row_scales(output))


def _round_contents_only(model: TransformersModel) -> list[Callable[[], object]]:
    """Let DeBERTa's projections round at their first call in each layer only.

    Later calls project the embeddings of relative positions: in the graph a table of floats.
    """
    undo: list[Callable[[], object]] = []
    for layer in encoder_layers(model):
        attention = find_submodule(layer.module, family_of(model.config.model_type).attention)
        projections = [part for part in (layer.query, layer.key, layer.value) if isinstance(part, RoundedLinear)]
        if attention is not None and projections:
            undo.append(attention.register_forward_pre_hook(_refresh(projections)).remove)
    return undo


def _refresh(projections: list[RoundedLinear]) -> Callable[[nn.Module, Any], None]:
    def hook(module: nn.Module, args: Any) -> None:
        for projection in projections:
            projection.is_fresh = True

    return hook
