"""Coarse pruning: whole layers, or the hidden width. Models come in few sizes; the largest that reaches a target is taken."""

from __future__ import annotations

import copy
from collections.abc import Iterator

from compress.core import console
from compress.core.errors import UsageError
from compress.editing.encoder_layers import keep_layers
from compress.editing.layer_norms import match_layer_norms
from compress.editing.width import fitting_width, hidden_scores, narrow, top_positions
from compress.models.family import family_of
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel
from compress.prune.context import PruneContext
from compress.prune.cost_model import CostModel
from compress.prune.curve import PruneCandidate
from compress.prune.depth import drop_order
from compress.prune.recovery import recover
from compress.prune.scoring import counting
from compress.prune.targets import PruneTarget


class CoarsePruning:
    """The strategy of methods layers and hidden."""

    def __init__(self, context: PruneContext, cost_model: CostModel) -> None:
        self.context, self.cost_model = context, cost_model
        self._sizes = without_layers(context) if context.settings.method == "layers" else narrowed(context)
        self._model: TransformersModel | None = None

    def cut_to(self, target: PruneTarget) -> PruneCandidate:
        """Return the largest model that reaches a target."""
        while self._model is None or not self._reaches(self._model, target):
            self._model = next(self._sizes, None)
            if self._model is None:
                raise UsageError(
                    f"method {self.context.settings.method} does not reach {target.name}, whatever it leaves",
                    "choose a milder target, or method obs",
                )
        return self._recovered(self._model)

    def smaller(self, accepted: PruneCandidate | None, rejections: int) -> PruneCandidate | None:
        """Return the next smaller model; None after a rejection, because smaller ones lose more."""
        model = None if rejections else next(self._sizes, None)
        return None if model is None else self._recovered(model)

    def _recovered(self, model: TransformersModel) -> PruneCandidate:
        recover(self.context, model, self.context.settings.recover_epochs)
        return PruneCandidate(model, {})

    def _reaches(self, model: TransformersModel, target: PruneTarget) -> bool:
        if target.speedup is not None:
            return self.cost_model.measured(model)[0] >= target.speedup
        assert target.share is not None  # noqa: S101 (a target is one of both)
        # By size, not by cost: the costs of heads and neurons cover no other width.
        return self.cost_model.size(model_shape(model)) <= target.share * self.cost_model.size(self.context.dense.shape)


def without_layers(context: PruneContext) -> Iterator[TransformersModel]:
    """Yield copies of the dense model with ever fewer layers: each time without the one that the calibration loss misses least."""
    dense, count = context.dense.model, len(context.dense.shape.layers)
    if count < 2:
        return
    batches = context.calibration.batches()
    dense.to(context.device)
    with console.progress("dropping layers", count - 1) as advance:
        order = drop_order(dense, batches, context.loss(dense), advance=advance)
    dense.to("cpu")
    kept = list(range(count))
    for dropped, _ in order:
        kept.remove(dropped)
        model = copy.deepcopy(dense)
        keep_layers(model, kept)
        context.set_origins(model, list(kept))
        console.info(f"  layers kept: {' '.join(str(number + 1) for number in kept)}")
        yield model


def narrowed(context: PruneContext) -> Iterator[TransformersModel]:
    """Yield ever narrower copies of the dense model: the width falls by a multiple of 16 and of the heads each time."""
    dense, hidden = context.dense.model, context.dense.shape.hidden
    batches = context.calibration.batches()
    dense.to(context.device)
    with console.progress("scoring the hidden width", len(batches)) as advance:
        scores = hidden_scores(dense, counting(batches, advance), context.loss(dense))
    dense.to("cpu")
    heads = getattr(dense.config, family_of(dense.config.model_type).heads_key)
    unit = fitting_width(hidden, heads, 1e-9)
    for width in range(hidden - unit, 0, -unit):
        model = _narrowed_to(context, top_positions(scores, width))
        console.info(f"  hidden width {width}")
        yield model


def _narrowed_to(context: PruneContext, kept: list[int]) -> TransformersModel:
    """Return a copy of the dense model with some hidden dimensions, its LayerNorms rescaled if that helps on validation."""
    dense, main = context.dense.model, context.main_metric
    model = copy.deepcopy(dense)
    narrow(model, kept)
    plain = copy.deepcopy(model)
    match_layer_norms(dense.to(context.device), model.to(context.device), kept, context.refitter.fitted_batches)
    dense.to("cpu")
    model.to("cpu")
    plain_metrics = context.validate(plain)
    # Matching every LayerNorm helps on most models, not on all.
    return plain if plain_metrics and plain_metrics[main] > context.validate(model)[main] else model
