"""Prune heads and neurons in steps: rank the units of the model as it stands, search, cut, refit."""

from __future__ import annotations

import copy
import math
from functools import cached_property

from compress.core.errors import UsageError
from compress.editing.encoder_layers import keep_layers
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel
from compress.prune.context import PruneContext
from compress.prune.cost_model import CostModel
from compress.prune.costs import Costs
from compress.prune.curve import Curve, PruneCandidate
from compress.prune.methods import REFITTING
from compress.prune.ranking import LayerRanking
from compress.prune.recovery import recover
from compress.prune.schedule import step_shares
from compress.prune.scoring import rank_units
from compress.prune.search import Kept, solve
from compress.prune.surgery import slice_model
from compress.prune.targets import PruneTarget, smallest_shape
from compress.prune.token_schedules import drop_tokens
from compress.prune.uniform import REMOVED, solve_uniform

TOLERANCE = 0.025  # of the speedup, within which a measurement ends the search for a budget
ATTEMPTS = 5  # budgets that are tried and timed for one target
DROP_STRIDE = 0.8  # share of the cost that each step towards a drop in accuracy keeps
REFINEMENTS = 2  # smaller steps from the last model within the drop
QUICK_EXAMPLES = 1000  # validation examples that score a model between the steps


class StructuredPruning:
    """The strategy of obs, fisher, taylor, magnitude and random.

    Each target starts from the model of the one before it.
    """

    def __init__(self, context: PruneContext, cost_model: CostModel, curve: Curve) -> None:
        self.context, self.settings, self.cost_model, self.curve = context, context.settings, cost_model, curve
        self._select = solve_uniform if self.settings.uniform else solve
        self._start = context.starting_model()
        self._model = copy.deepcopy(self._start)

    def cut_to(self, target: PruneTarget) -> PruneCandidate:
        """Cut the current model to a target in steps, with recovery between or after them."""
        settings, model = self.settings, self._model
        steps = None if settings.steps == "auto" else settings.steps
        epochs, epochs_per_step = settings.recover_epochs, None
        while True:
            budgets = self._step_budgets(model, self._corrected_budget(target), steps)
            if epochs_per_step is None:
                epochs_per_step = max(1, epochs // len(budgets)) if settings.recover == "between" else 0
            if len(budgets) == 1:
                break
            self._step(model, budgets[0])
            steps = None if steps is None else steps - 1
            spent = max(0, min(epochs_per_step, epochs - 1))  # one is kept for the end
            recover(self.context, model, spent)
            epochs -= spent
            self.curve.record(model, QUICK_EXAMPLES, timed=target.speedup is not None)
        refits = self._step(model, budgets[0], target.speedup)
        return PruneCandidate(model, self._complete(model, epochs, refits))

    def smaller(self, accepted: PruneCandidate | None, rejections: int) -> PruneCandidate | None:
        """Cut the accepted model by one step, which is smaller after each rejection."""
        if rejections > REFINEMENTS:
            return None
        share = DROP_STRIDE
        for _ in range(rejections):
            share = math.sqrt(share)
        model = copy.deepcopy(self._start if accepted is None else accepted.model)
        costs = self.cost_model.costs
        budget = costs.fixed + share * (costs.total(model_shape(model)) - costs.fixed)
        ranked = self._rank(model, budget)
        try:
            kept = self._select(ranked, self._costs_of(model), budget)
        except UsageError:  # no unit is left that could be removed
            return None
        self._cut(model, kept)
        return PruneCandidate(model, self._complete(model, self.settings.recover_epochs, self._refit(model)))

    # Budgets

    @cached_property
    def _least_budget(self) -> float:
        """The budget of the smallest model: a little more than its cost, for costs are rounded up to cells of the search's grid."""
        return 1.01 * self.cost_model.costs.total(smallest_shape(self.context.dense.shape, self.settings.uniform))

    def _corrected_budget(self, target: PruneTarget) -> float:
        """Return a target's budget, made smaller if the last model that was timed was slower than predicted."""
        if target.speedup is None:
            return target.budget
        return max(target.budget * min(1.0, self.cost_model.correction), self._least_budget)

    def _step_budgets(self, model: TransformersModel, budget: float, steps: int | None) -> list[float]:
        """Return the budgets of the steps from a model to a budget: equal factors of the cost that units cause."""
        shape, fixed = model_shape(model), self.cost_model.costs.fixed
        removable = self.cost_model.costs.total(shape) - fixed
        share = (budget - fixed) / removable
        if self.settings.method not in REFITTING or not 0 < share < 1:
            return [budget]
        return [fixed + part * removable for part in step_shares(share, steps, shape == model_shape(self._start))]

    # Steps

    def _step(self, model: TransformersModel, budget: float, speedup: float | None = None) -> dict[str, object]:
        """Cut a model to a budget, in place, and refit its layers; with `speedup` the budget moves until that is measured."""
        ranked = self._rank(model, budget)
        if speedup is None:
            kept = self._select(ranked, self._costs_of(model), budget)
        else:
            kept = self._timed_selection(model, ranked, budget, speedup)
        self._cut(model, kept)
        return self._refit(model)

    def _costs_of(self, model: TransformersModel) -> Costs:
        """Return the costs of units at the numbers of tokens that a model's layers see."""
        return self.cost_model.costs.with_token_shares(model_shape(model).token_shares)

    def _rank(self, model: TransformersModel, budget: float) -> list[LayerRanking]:
        """Rank a model's units, and let it drop the tokens that are worth less than units; leaves it on the CPU."""
        ranked = rank_units(self.context, model)
        model.to("cpu")
        if self.settings.tokens == "auto":
            drop_tokens(self.context, model, ranked, self.cost_model.costs, budget)
        return ranked

    def _timed_selection(self, model: TransformersModel, ranked: list[LayerRanking], budget: float, speedup: float) -> list[Kept]:
        """Search, time the sliced model, and search again with another budget until the speedup is measured.

        Returns:
            The selection whose measured speedup is nearest to the target.
        """
        attempts: list[tuple[float, list[Kept]]] = []
        for _ in range(ATTEMPTS):
            kept = self._select(ranked, self._costs_of(model), budget)
            candidate = copy.deepcopy(model)
            self._cut(candidate, kept)
            measured = self.cost_model.calibrated(candidate)[0]
            miss = abs(measured / speedup - 1)
            attempts.append((miss, kept))
            if miss <= TOLERANCE:
                break
            budget = max(budget * measured / speedup, self._least_budget)
        return min(attempts, key=lambda attempt: attempt[0])[1]

    def _cut(self, model: TransformersModel, kept: list[Kept]) -> None:
        """Cut a model in place; with uniform widths, layers without units are removed as a whole."""
        if self.settings.uniform:
            remaining = [number for number, layer in enumerate(kept) if layer != REMOVED]
            origins = self.context.origins(model)
            self.context.set_origins(model, [origins[number] for number in remaining])
            keep_layers(model, remaining)
            kept = [kept[number] for number in remaining]
        slice_model(model, kept)

    # Fitting

    def _refit(self, model: TransformersModel) -> dict[str, object]:
        """Refit a model's layers, in place; returns the errors."""
        return self.context.refitter.refit_layers(model, self.context.origins(model)) if self.context.refits else {}

    def _complete(self, model: TransformersModel, epochs: int, refits: dict[str, object]) -> dict[str, object]:
        """Fit a model at its final size as a whole and let it recover, in place; returns the errors of all refits."""
        if self.context.refits:
            refits = refits | self.context.refitter.refit_whole(model, self.context.origins(model))
        recover(self.context, model, epochs)
        return refits
