"""Layer-wise reconstruction: refit a smaller model's output projections so that it computes what the dense model did, without training.

From the first layer to the last, each output projection is fitted on its remaining inputs so that projection plus residual equals
the dense model's sum (mask tuning, Kwon et al. 2022, arXiv 2204.09656, generalised to a full least-squares fit with intercept). In
BERT that is the sum before a LayerNorm; in layers that normalise first it is the residual stream itself. The target excludes the
smaller model's own residual, so each fit also corrects the errors of the layers below. Layers that share their weights are fitted together
(compress.editing.shared_reconstruction).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from compress.editing.layerwise import LayerInputs, captured_inputs, first_layer_inputs
from compress.editing.least_squares import HeldOutFit, fitted_part
from compress.editing.shared_reconstruction import SharedFit, SublayerErrors, Sums
from compress.models.biases import may_add_biases
from compress.models.device import Batch
from compress.models.layers import ActivationFunction, Layer, encoder_layers, ffn_activation
from compress.models.model_shape import model_shape
from compress.models.sharing import all_owners, spans
from compress.models.types import TransformersModel

CACHED_BYTES = 1 << 30  # of the targets in half precision; larger ones are computed again for each model


class DenseTargets:
    """The targets of reconstruction: a dense model's sums of residual and sublayer on calibration batches.

    They are cached in half precision if they fit `CACHED_BYTES`, so that later fits need no pass of the dense model. Otherwise they
    are computed layer by layer, each time; then only the batches' hidden states are in memory.

    Args:
        model: the dense model in evaluation mode, on the device of the batches.
        batches: calibration inputs, at least two.
    """

    def __init__(self, model: TransformersModel, batches: Sequence[Batch]) -> None:
        self.model, self.batches = model, batches
        self.masks = [batch["attention_mask"].bool() for batch in batches]
        shape = model_shape(model)
        tokens = sum(int(batch["attention_mask"].sum()) for batch in batches)
        self._cacheable = 4 * tokens * shape.hidden * len(shape.layers) <= CACHED_BYTES
        self._cache: list[list[Sums]] = []

    def sums(self) -> Iterator[list[Sums]]:
        """Yield, layer by layer, the sums of every batch, without padding."""
        if self._cache:
            for layer in self._cache:
                yield [(first.float(), second.float()) for first, second in layer]
            return
        inputs, cache = first_layer_inputs(self.model, self.batches), []
        for layer in encoder_layers(self.model):
            sums = self._layer_sums(inputs, layer)
            if self._cacheable:
                cache.append([(first.half(), second.half()) for first, second in sums])
            yield sums
        self._cache = cache

    def _layer_sums(self, inputs: LayerInputs, layer: Layer) -> list[Sums]:
        """Run one layer on all batches, whose states become its outputs."""
        sums: list[Sums] = []
        for number, mask in enumerate(self.masks):
            with captured_inputs(layer.attention_norm, layer.output_norm) as captured:
                inputs.advance(layer, number)
            first, second = (captured[1], inputs.states[number]) if layer.norms_first else captured
            sums.append((first[mask].float(), second[mask].float()))
        return sums


@torch.no_grad()
def reconstruct(
    model: TransformersModel, targets: DenseTargets, origins: Sequence[int] | None = None, advance: Callable[[], None] = lambda: None
) -> list[SublayerErrors]:
    """Refit every output projection of a pruned or factorized model to the dense model's sums, in place.

    Args:
        model: the smaller model in evaluation mode, on the device of the targets.
        targets: of the dense model.
        origins: for each layer of the smaller model, its position in the dense one, ascending; by default all layers.
        advance: called after each layer.

    Returns:
        For each layer the held-out mean squared error of the two sums, before and after the fit: `attention_before`,
        `attention_after`, `ffn_before`, `ffn_after`.
    """
    inputs = first_layer_inputs(model, targets.batches)
    activation, intercept = ffn_activation(model), may_add_biases(model)
    layers = list(encoder_layers(model))
    positions = set(range(len(layers)) if origins is None else origins)
    selected = (sums for number, sums in enumerate(targets.sums()) if number in positions)
    report: list[SublayerErrors] = []
    owners = all_owners(model)
    for span in spans(owners):
        if len(span) > 1:
            fit = SharedFit(model, inputs, targets.masks, {number: next(selected) for number in span})
            report += fit.refit(advance)
            continue
        layer, sums = layers[span.start], next(selected)
        attention = _refit_attention(inputs, layer, [first for first, _ in sums], targets.masks, intercept)
        ffn = _refit_ffn(inputs, layer, activation, [second for _, second in sums], targets.masks, intercept)
        report.append({f"attention_{name}": error for name, error in attention.items()} | {f"ffn_{name}": ffn[name] for name in ffn})
        advance()
    return report


def _refit_attention(
    inputs: LayerInputs, layer: Layer, sums: list[torch.Tensor], masks: list[torch.Tensor], intercept: bool
) -> SublayerErrors:
    """Refit the attention's output projection; afterwards the states are what the FFN sublayer gets.

    Tokens that the layer drops are not fitted: nothing reads them.
    """
    contexts = [inputs.attention_context(layer, number) for number in range(len(masks))]
    kept = [inputs.kept_after(layer, number) for number in range(len(masks))]  # does not depend on the projection that is fitted
    first, last = fitted_part(layer.attention_output)
    fit = HeldOutFit(last, intercept)
    for number, mask in enumerate(masks):
        left = kept[number]
        fit.add(number, first(contexts[number][left]), sums[number][left[mask]] - inputs.states[number][left])
    before, after = fit.refit()
    for number, context in enumerate(contexts):
        inputs.states[number] = layer.after_attention(layer.attention_output(context) + inputs.states[number])
    inputs.kept = kept
    return {"before": before, "after": after}


def _refit_ffn(
    inputs: LayerInputs,
    layer: Layer,
    activation: ActivationFunction,
    sums: list[torch.Tensor],
    masks: list[torch.Tensor],
    intercept: bool,
) -> SublayerErrors:
    """Refit the FFN's output projection; afterwards the states are the layer's outputs."""
    first, last = fitted_part(layer.ffn_out)
    fit = HeldOutFit(last, intercept)
    for number, mask in enumerate(masks):
        kept = inputs.kept[number]
        state = inputs.states[number][kept]
        fit.add(number, first(layer.ffn_hidden(state, activation)), sums[number][kept[mask]] - state)
    before, after = fit.refit()
    for number, state in enumerate(inputs.states):
        inputs.states[number] = layer.after_ffn(layer.ffn_out(layer.ffn_hidden(state, activation)) + state)
    return {"before": before, "after": after}
