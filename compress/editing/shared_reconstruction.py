"""Layer-wise reconstruction of layers that share their weights: one least-squares fit for all uses of a projection.

The rows of the fit are those of all uses, one below the other. A use reads what the uses before it computed, so a fit changes its own
inputs. Therefore the fits of attention and FFN alternate, each on inputs that are computed anew, and a fit is kept only if the error
that the layers then have on held-out texts falls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from compress.editing.layerwise import LayerInputs
from compress.editing.least_squares import HELD_OUT, HeldOutFit, fitted_part
from compress.models.biases import may_add_biases
from compress.models.layers import Layer, encoder_layers, ffn_activation
from compress.models.sharing import all_owners, share_parameters
from compress.models.types import TransformersModel

ROUNDS = 2  # fits of each sublayer
STEPS = (1.0, 0.5)  # towards a fit: the half of it, if the whole makes the error larger
SUBLAYERS = ("attention", "ffn")
Sums = tuple[torch.Tensor, torch.Tensor]  # of residual and attention, and of residual and FFN, (tokens, hidden) each
SublayerErrors = dict[str, float]  # of a layer by sublayer, the mean squared error on held-out texts


class SharedFit:
    """Fits the output projections of a span of layers that share weights with each other, and with no other layer.

    Args:
        model: the smaller model, in evaluation mode.
        inputs: of the first layer; after the fit, of the layer that follows the last.
        masks: of the batches, true at tokens.
        sums: the dense model's sums of every batch, by the position of the layer.
    """

    def __init__(self, model: TransformersModel, inputs: LayerInputs, masks: list[torch.Tensor], sums: Mapping[int, list[Sums]]) -> None:
        self.model, self.inputs, self.masks = model, inputs, masks
        self.owners, self.start = all_owners(model), (list(inputs.states), list(inputs.kept))
        self.layers = dict(enumerate(encoder_layers(model)))
        self.sums = {number: [(first.half(), second.half()) for first, second in parts] for number, parts in sums.items()}
        self.activation = ffn_activation(model)

    def refit(self, advance: Callable[[], None]) -> list[SublayerErrors]:
        """Fit the projections, in place; returns each layer's errors before and after, as `reconstruct` does."""
        before = errors = self._run({})
        for _ in range(ROUNDS):
            for sublayer in SUBLAYERS:
                errors = self._fit(sublayer, errors)
        self._run({})
        report = []
        for number in self.sums:
            parts = {"before": before[number], "after": errors[number]}
            report.append({f"{sublayer}_{name}": parts[name][sublayer] for sublayer in SUBLAYERS for name in parts})
            advance()
        return report

    def _fit(self, sublayer: str, before: dict[int, SublayerErrors]) -> dict[int, SublayerErrors]:
        """Fit one sublayer of every owner, in place, unless that makes the layers worse; returns the errors then."""
        linears = {self.owners[number]: _projection(self.layers[self.owners[number]], sublayer) for number in self.sums}
        fits = {owner: HeldOutFit(fitted_part(linear)[1], may_add_biases(self.model)) for owner, linear in linears.items()}
        self._run(fits, sublayer)
        old = {owner: _weights(fit.linear) for owner, fit in fits.items()}
        for fit in fits.values():
            fit.refit()
        new = {owner: _weights(fit.linear) for owner, fit in fits.items()}
        for step in STEPS:
            for owner, fit in fits.items():
                _move(fit.linear, old[owner], new[owner], step)
            share_parameters(self.model, self.owners)  # a linear without a bias may have got one
            errors = self._run({})
            if _total(errors) < _total(before):
                return errors
        for owner, fit in fits.items():
            _move(fit.linear, old[owner], new[owner], 0.0)
        return before

    def _run(self, fits: Mapping[int, HeldOutFit], sublayer: str = "") -> dict[int, SublayerErrors]:
        """Run all layers of the span from its inputs; returns their errors, and adds the rows of a sublayer to the owners' fits."""
        self.inputs.states[:], self.inputs.kept[:] = self.start
        errors: dict[int, SublayerErrors] = {}
        for number, sums in self.sums.items():
            layer, fit = self.layers[number], fits.get(self.owners[number])
            errors[number] = {
                "attention": self._attention(layer, sums, fit if sublayer == "attention" else None),
                "ffn": self._ffn(layer, sums, fit if sublayer == "ffn" else None),
            }
        return errors

    def _attention(self, layer: Layer, sums: list[Sums], fit: HeldOutFit | None) -> float:
        """Run a layer's attention; afterwards the states are what its FFN gets."""
        error, states = _HeldOutError(), self.inputs.states
        for number, mask in enumerate(self.masks):
            context, kept = self.inputs.attention_context(layer, number), self.inputs.kept_after(layer, number)
            target = sums[number][0].float()[kept[mask]]
            if fit is not None:
                fit.add(number, fitted_part(layer.attention_output)[0](context[kept]), target - states[number][kept])
            total = layer.attention_output(context) + states[number]
            error.add(number, total[kept] - target)
            states[number], self.inputs.kept[number] = layer.after_attention(total), kept
        return error.mean

    def _ffn(self, layer: Layer, sums: list[Sums], fit: HeldOutFit | None) -> float:
        """Run a layer's FFN; afterwards the states are its outputs."""
        error, states = _HeldOutError(), self.inputs.states
        for number, mask in enumerate(self.masks):
            hidden, kept = layer.ffn_hidden(states[number], self.activation), self.inputs.kept[number]
            target = sums[number][1].float()[kept[mask]]
            if fit is not None:
                fit.add(number, fitted_part(layer.ffn_out)[0](hidden[kept]), target - states[number][kept])
            total = layer.ffn_out(hidden) + states[number]
            error.add(number, total[kept] - target)
            states[number] = layer.after_ffn(total)
        return error.mean


class _HeldOutError:
    """The mean squared error of the rows of held-out batches, summed over their width."""

    def __init__(self) -> None:
        self.total, self.rows = 0.0, 0

    def add(self, number: int, differences: torch.Tensor) -> None:
        """Add the rows of batch `number`, (n, hidden), if it is held out."""
        if number % HELD_OUT == 0:
            self.total += float(differences.double().square().sum())
            self.rows += len(differences)

    @property
    def mean(self) -> float:
        """The mean over the rows."""
        return self.total / max(1, self.rows)


def _projection(layer: Layer, sublayer: str) -> torch.nn.Module:
    return layer.attention_output if sublayer == "attention" else layer.ffn_out


def _weights(linear: torch.nn.Linear) -> tuple[torch.Tensor, torch.Tensor | None]:
    return linear.weight.detach().clone(), None if linear.bias is None else linear.bias.detach().clone()


def _move(
    linear: torch.nn.Linear, old: tuple[torch.Tensor, torch.Tensor | None], new: tuple[torch.Tensor, torch.Tensor | None], step: float
) -> None:
    """Set a linear to a point between its old and its new weights."""
    with torch.no_grad():
        linear.weight.copy_(old[0] + step * (new[0] - old[0]))
        if linear.bias is not None and new[1] is not None:
            start = torch.zeros_like(new[1]) if old[1] is None else old[1]
            linear.bias.copy_(start + step * (new[1] - start))


def _total(errors: Mapping[int, SublayerErrors]) -> float:
    return sum(sum(layer.values()) for layer in errors.values())
