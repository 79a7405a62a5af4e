"""What a search has learned: how long stages take, and how much of a loss training brings back.

Everything is a ratio estimate with a prior worth one observation, so that the first prediction is a guess and later ones are
measurements. The state is JSON: it is carried over to the next search in the same store.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

LearnedCosts = dict[str, dict[str, list[float]]]  # as it is stored


@dataclass(frozen=True)
class Rate:
    """The prior of a kind of work: seconds = fixed + per_unit * units."""

    fixed: float
    per_unit: float


# Seconds on two cores of a server, for a 6-layer encoder of width 384 and texts of 32 tokens; the unit is given for each.
PRIORS = {
    "train": Rate(8.0, 0.32),  # steps x size of the model relative to the baseline
    "shallow": Rate(8.0, 0.32),  # the same, of students of other shapes
    "narrow": Rate(8.0, 0.32),
    "bilstm": Rate(8.0, 0.32),
    "static": Rate(20.0, 0.006),  # steps of a student without an encoder
    "outputs": Rate(2.0, 0.004),  # texts of which the teacher's outputs are computed
    "prune": Rate(40.0, 32.0),  # targets
    "factorize": Rate(30.0, 0.0),
    "export": Rate(8.0, 0.0),
    "quick": Rate(10.0, 0.0),  # a smaller vocabulary
    "quantize": Rate(30.0, 0.0),  # int8 with tuning
    "eval": Rate(2.0, 0.002),  # examples, times models
    "bench": Rate(8.0, 0.0),
    "finish": Rate(10.0, 0.0),
}
REMAINS_FIRST = 0.45  # share of a pruned model's loss that the first unit of training leaves
REMAINS_DOUBLED = 0.75  # share that each doubling of the training leaves
PRIOR_WEIGHT = 1.0  # observations that the prior counts for


def fixed_seconds(prior: Rate, pace: float) -> float:
    """Return the seconds that do not depend on the units: loading and timing, which depend less on the size of a model."""
    return prior.fixed * min(max(pace, 0.3), 3.0)


@dataclass
class SearchCosts:
    """Predicts the seconds of stages.

    Attributes:
        observed: by kind of work, [observations, sum of units, sum of seconds beyond the fixed ones].
        remains: by step of training (`first`, `doubled`), [observations, sum of losses before, sum of losses after].
        scale: seconds of this machine per second of the priors, from a first quick timing.
    """

    observed: dict[str, list[float]] = field(default_factory=dict)
    remains: dict[str, list[float]] = field(default_factory=dict)
    scale: float = 1.0

    def predict(self, kind: str, units: float = 0.0) -> float:
        """Return the expected seconds of a stage."""
        prior = PRIORS[kind]
        count, seen, seconds = self.observed.get(kind, [0.0, 0.0, 0.0])
        if prior.per_unit and seen:
            return fixed_seconds(prior, self.scale) + seconds / seen * units
        if count:
            return seconds / count
        pace = self._pace
        return fixed_seconds(prior, pace) + pace * prior.per_unit * units

    @property
    def _pace(self) -> float:
        """The seconds here per second of the priors: the geometric mean of the first timing and of every kind that was observed.

        So a machine that was busy for the moment of that timing is not thought slow for long.
        """
        logs = [math.log(self.scale)]
        for kind, (count, units, seconds) in self.observed.items():
            prior = PRIORS.get(kind)
            usual = 0.0 if prior is None else prior.per_unit * units if prior.per_unit else prior.fixed * count
            if usual > 0 and seconds > 0:
                logs.append(math.log(seconds / usual))
        return math.exp(sum(logs) / len(logs))

    def learn(self, kind: str, units: float, seconds: float) -> None:
        """Record a finished stage; recent ones count more, because the load of a machine changes."""
        prior = PRIORS[kind]
        variable = max(seconds - fixed_seconds(prior, self.scale), 0.2 * seconds) if prior.per_unit else seconds
        old = self.observed.get(kind, [0.0, 0.0, 0.0])
        self.observed[kind] = [0.5 * old[0] + 1.0, 0.5 * old[1] + units, 0.5 * old[2] + variable]

    def remaining_share(self, step: str) -> float:
        """Return which share of a loss a step of training leaves: `first` or `doubled`."""
        guess = REMAINS_FIRST if step == "first" else REMAINS_DOUBLED
        count, before, after = self.remains.get(step, [0.0, 0.0, 0.0])
        prior_before = before / count if count else 1.0
        share = (PRIOR_WEIGHT * guess * prior_before + after) / (PRIOR_WEIGHT * prior_before + before)
        return min(max(share, 0.1), 1.0)

    def learn_recovery(self, step: str, before: float, after: float) -> None:
        """Record how a step of training changed a drop, in points; gains and tiny losses say nothing about the share."""
        if before < 0.5:
            return
        old = self.remains.get(step, [0.0, 0.0, 0.0])
        self.remains[step] = [old[0] + 1.0, old[1] + before, old[2] + max(after, 0.0)]

    def recovered(self, drop: float, trained: float, planned: float) -> float:
        """Return the drop to expect after more training.

        Args:
            drop: now, in points.
            trained: units of training that led to it; 0 for a model that was only pruned.
            planned: units in total.
        """
        if drop <= 0 or planned <= trained:
            return drop
        if trained == 0:
            drop, trained = drop * self.remaining_share("first"), 1.0
        return drop * self.remaining_share("doubled") ** max(0.0, math.log2(planned / trained))

    def as_json(self) -> LearnedCosts:
        """Return what was learned, to carry over."""
        return {"observed": dict(self.observed), "remains": dict(self.remains)}

    @staticmethod
    def from_json(state: Mapping[str, Mapping[str, list[float]]], scale: float = 1.0) -> SearchCosts:
        """Read what `as_json` returned."""
        return SearchCosts({**state.get("observed", {})}, {**state.get("remains", {})}, scale)
