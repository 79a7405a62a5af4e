"""The race: which size of a model keeps the limit after training, at the least cost.

Arms are models of different sizes, from small to large gains. Training doubles step by step (successive halving; Jamieson and Talwalkar,
arXiv 1502.07943), and after each step the next one goes to the arm that promises most for its time. Accuracy falls monotonically along a
family, so this bisects it: the first steps go to the sizes around the limit, and what they bring back tells what others will.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from compress.search.candidates import Speed
from compress.search.costs import SearchCosts
from compress.search.estimates import SAFE, Drop, combined, expected_drop

HOPELESS = 0.1  # an arm whose chance to keep the limit falls below this is dropped
LARGEST = 32  # units of training that a race goes up to
LEAST = 0.03  # expected gain, as a logarithm, that is worth a training
LASTING = 0.7  # share of a measured drop that stays, at most
WORTHWHILE = 0.1  # points that a doubling of the training must bring


@dataclass
class Arm:
    """A model of one size, and how far its training is.

    Attributes:
        name: of the size: `4x`.
        start: what its training starts from: a model, or a SPEC.
        gain: predicted speedup over the baseline, or another number that is the better the larger.
        size: seconds of its training step relative to the baseline's.
        drop: the latest measurement of its drop.
        speed: predicted for its int8 form; None if unknown.
        units: units of training so far.
        model: the latest model: a stage, or `start` if it was not trained.
        is_spec: whether `start` is a SPEC, which must be trained first.
        variants: whether it learns from variants of the texts, too.
        out: why it was dropped; empty while it is in the race.
        kind: of its training, by which its costs are known; `train` for encoders.
        before: stages that must be run before the training, `start` the last of them, with their kinds of work.
        lasting: points of its drop that are expected to stay whatever its training.
        pruned: its drop before training, by which a later measurement is judged; None if only measurements count.
    """

    name: str
    start: str
    gain: float
    size: float
    drop: Drop | None
    speed: Speed | None = None
    units: int = 0
    model: str = ""
    is_spec: bool = False
    variants: bool = True
    out: str = ""
    kind: str = "train"
    before: tuple[tuple[str, str], ...] = ()
    lasting: float = 0.0
    pruned: Drop | None = None

    def expected(self, costs: SearchCosts, added: float = 0.0) -> Drop | None:
        """Return the drop that is expected of its latest model, whatever was measured; `added`: points that its final form loses."""
        if self.pruned is None:
            return None
        return expected_drop(self.pruned, costs.recovered(1.0, 0, self.units), added)

    def chance(self, limit: float, costs: SearchCosts, planned: int = 0) -> float:
        """Return the probability that the arm keeps the limit, now or once it is trained for `planned` units."""
        if self.drop is None:
            return 0.5
        now = combined(self.drop, self.expected(costs)) if self.units else self.drop
        lasting = min(self.lasting, LASTING * max(now.points, 0.0)) if self.units else self.lasting
        points = lasting + costs.recovered(now.points - lasting, self.units, planned)
        # What training brings back is uncertain itself: by a third of it.
        error = math.hypot(now.error, (now.points - points) / 3)
        return Drop(points, error, now.n).probability(limit)

    @property
    def is_rival(self) -> bool:
        """Whether it is no size of the pruned family."""
        return self.is_spec or bool(self.before)

    @property
    def next_step(self) -> int:
        """Units in total after the next step of training."""
        return max(1, 2 * self.units)


class Trainer(Protocol):
    """Trains arms, and knows what that costs."""

    costs: SearchCosts

    def seconds_to(self, arm: Arm, units: int) -> float:
        """Return the seconds of training an arm up to this many units in total, and of measuring it."""
        ...

    def left(self) -> float:
        """Return the seconds that are left."""
        ...

    def train(self, arm: Arm, units: int) -> bool:
        """Train an arm up to this many units in total and measure its drop; False if there is no time for it."""
        ...

    def loses_to(self, arm: Arm, other: Arm) -> bool:
        """Return whether an arm is worse than another beyond chance, on the same examples."""
        ...

    def drop_arm(self, arm: Arm, why: str) -> None:
        """Take an arm out of the race."""
        ...


def race(arms: Sequence[Arm], limit: float, trainer: Trainer, floor: float, safe: float = SAFE) -> None:
    """Train arms, step by step, until the largest gain that keeps the limit is clear, or the time is over.

    Args:
        arms: of one family.
        limit: points.
        trainer: trains them.
        floor: the gain that there is already.
        safe: the chance from which an arm counts as one that keeps the limit.
    """
    while True:
        best = leader(arms, limit, trainer.costs, safe)
        reached = max(floor, best.gain if best else 0.0)
        plans = {id(arm): _value(arm, reached, limit, trainer) for arm in arms if not arm.out and arm.gain > reached}
        arm = max((arm for arm in arms if plans.get(id(arm), 0.0) > 0.0), key=lambda arm: plans[id(arm)], default=None)
        if arm is None or not (trainer.train(arm, arm.next_step) or arm.out):  # an arm that cannot be trained leaves the race to the others
            return
        chance = max(arm.chance(limit, trainer.costs, units) for units in (arm.units, *_rungs(arm)))
        if not arm.out and chance < HOPELESS:
            trainer.drop_arm(arm, f"its chance to keep the limit, also with more training, is {100 * chance:.0f} %")


def leader(arms: Sequence[Arm], limit: float, costs: SearchCosts, safe: float = SAFE) -> Arm | None:
    """Return the arm with the largest gain that keeps the limit as it stands, with this probability."""
    keeping = [arm for arm in arms if arm.units and not arm.out and arm.chance(limit, costs) >= safe]
    return max(keeping, key=lambda arm: arm.gain, default=None)


def _rungs(arm: Arm) -> list[int]:
    """Return the totals of units that the training of an arm may still reach; none beyond `LARGEST`."""
    rungs, units = [], arm.next_step
    while units <= LARGEST:
        rungs.append(units)
        units *= 2
    return rungs


def _value(arm: Arm, reached: float, limit: float, trainer: Trainer) -> float:
    """Return what training an arm on is worth: its chance to keep the limit, times the logarithm of what it gains, per second.

    Of all lengths of training that fit into the time the best counts; 0 if none fits or all are hopeless.
    """
    left, best = trainer.left(), 0.0
    for units in _rungs(arm):
        seconds = trainer.seconds_to(arm, units)
        chance = arm.chance(limit, trainer.costs, units)
        worth = chance * math.log(arm.gain / reached)
        if seconds <= left and chance >= HOPELESS and worth >= LEAST:
            best = max(best, worth / max(seconds, 1.0))
    return best


def race_for_accuracy(arms: Sequence[Arm], trainer: Trainer) -> None:
    """Train arms, twice as long in each round; after each, those that are worse by a paired test are dropped.

    The last one is trained until a doubling brings less than `WORTHWHILE` points.
    """
    running, units = [arm for arm in arms if not arm.out], 1
    while running and units <= LARGEST:
        before = {arm.name: arm.drop for arm in running}
        trained = False
        for arm in running:
            trained |= arm.units < units and trainer.train(arm, units)
        running = [arm for arm in running if not arm.out]
        if not trained or not running:
            return
        best = min(running, key=lambda arm: arm.drop.points if arm.drop else 100.0)
        for arm in running:
            if arm is not best and trainer.loses_to(arm, best):
                trainer.drop_arm(arm, f"{best.name} is more accurate (paired test)")
        running = [arm for arm in running if not arm.out]
        earlier = before.get(best.name)
        stalled = units > 2 and earlier is not None and best.drop is not None and earlier.points - best.drop.points < WORTHWHILE
        if len(running) == 1 and stalled:
            return
        units *= 2
