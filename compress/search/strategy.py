"""The strategy of a search: cheap measurements first, then one pruned family, a race of trainings, last the forms of the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from compress.core import console
from compress.core.errors import Diverged, GateMissed, ModelError, UsageError
from compress.prune.targets import OutOfReach
from compress.search.baseline import is_float_baseline_enough, measure_baseline
from compress.search.calibration import SpeedCalibration
from compress.search.candidates import SearchCandidate, Speed
from compress.search.choice import drop_unsafe, keeps_limit
from compress.search.estimates import INT8_LOSS, SAFE, Drop, along_family
from compress.search.race import WORTHWHILE, Arm, race, race_for_accuracy
from compress.search.rivals import factorized_arms, student_arms, student_specs
from compress.search.shape_clock import ShapeFacts
from compress.search.space import FEWER_TARGETS, FIXED_STEP, WHOLE_TEXT, stage_name
from compress.search.trials import OutOfTime, Trials

FAMILY_SHARE = 0.4  # of what is left, for the pruned family
WORTH_FINISHING = 0.25  # chance to keep the limit from which a student without an encoder is brought into its final form
WORTH_QUANTIZING = 0.5  # the same, of a size
ROUGH_DISAGREEMENT = 0.1  # share of the answers in which a pruned model differs, before it was compared
FIRST_GUESS = 4  # units of training after which the first size that is tried should be at the limit
STATIC_GAIN = 100.0  # speedup that is expected of a student without an encoder
CLOCK_SECONDS = 120.0  # that must be left to time other shapes
STATIC_UNITS = 8  # units of its training, at most


ShapeTimer = Callable[[Sequence[str]], Mapping[str, ShapeFacts]]


@dataclass
class Search:
    """A search in progress.

    Attributes:
        trials: runs and measures.
        students: SPECs of students without an encoder that may be tried.
        clock: returns how fast and how large students of SPECs are here, untrained.
        vocabulary: tokens of the model.
        family: the arms of the pruned family, by rising gain.
        others: arms of students without an encoder.
        rivals: arms of students of other shapes, and of factorized sizes.
        floor: the largest gain of a size whose final form keeps the limit, or what the baseline gains: only more is worth trying.
        finished: models that were brought into their final forms.
        interrupted: whether the user stopped it.
        calibration: of predicted speeds.
    """

    trials: Trials
    students: Sequence[str] = ()
    clock: ShapeTimer | None = None
    vocabulary: int = 0
    family: list[Arm] = field(default_factory=list)
    others: list[Arm] = field(default_factory=list)
    rivals: list[Arm] = field(default_factory=list)
    floor: float = 0.0
    finished: set[str] = field(default_factory=set)
    interrupted: bool = False
    calibration: SpeedCalibration = field(default_factory=SpeedCalibration)

    def run(self) -> None:
        """Search until the answer is clear or the time is over; a first Ctrl-C ends the search with what was found.

        Raises:
            KeyboardInterrupt: nothing was found yet.
        """
        try:
            try:
                measure_baseline(self.trials)
                self.trials.say(f"stop: {self._search()}")
            except OutOfTime as stop:
                self.trials.say(f"stop: {stop}")
        except KeyboardInterrupt:
            if not any(candidate.servable for candidate in self.trials.candidates):
                raise
            self.interrupted = True
            self.trials.say("stop: interrupted; the answer is the best so far")

    def _search(self) -> str:
        """Try everything that makes sense; returns why the search ends."""
        trials, objective = self.trials, self.trials.objective
        if objective.kind == "most accurate" and is_float_baseline_enough(trials):
            return "the baseline itself is within the latency"
        if self._try_students() and objective.kind == "fastest":
            return "a student without an encoder keeps the limit, and no encoder is as fast"
        self._prune()
        self._enter_rivals()
        if objective.kind == "most accurate":
            self._race_for_accuracy()
        else:
            self._race_for_gain()
        return f"nothing is left to try, {console.duration(max(trials.left(), 0.0))} before the end of the budget"

    # Cheap measurements

    def _try_students(self) -> bool:
        """Try students without an encoder: is an encoder needed at all? Returns whether one of them keeps the limit."""
        trials, space = self.trials, self.trials.space
        if space.facts.target not in WHOLE_TEXT:
            return False
        limit, safe = trials.objective.limit, max(SAFE, trials.objective.confidence or 0.0)
        for spec in self.students:
            # Variants of the texts do not help it (docs/results/distillation.md).
            arm = Arm(spec, spec, STATIC_GAIN, 1.0, None, Speed(STATIC_GAIN), is_spec=True, variants=False, kind="static")
            self.others.append(arm)
            trials.say(f"is an encoder needed at all? {spec}: a hundred times as fast, if it is accurate enough")
            before = math.inf
            while arm.units < STATIC_UNITS and trials.train(arm, arm.next_step):
                lost = arm.drop.points if arm.drop else math.inf
                chances = [arm.chance(limit, trials.costs, units) for units in (0, STATIC_UNITS)]
                if chances[0] >= safe or chances[1] < WORTH_FINISHING or before - lost < WORTHWHILE:
                    break
                before = lost
            if arm.units and arm.chance(limit, trials.costs) >= WORTH_FINISHING:
                if self._finish_student(arm):
                    return True
            elif arm.units:
                trials.drop_arm(arm, "an encoder is needed: it loses too much")
        return False

    def _finish_student(self, arm: Arm) -> bool:
        """Bring a student without an encoder into its final forms; returns whether one of them keeps the limit.

        Its tables are most of it: in int8 they are smaller, not faster, and can cost accuracy.
        """
        trials, space = self.trials, self.trials.space
        graph = space.add_graph(stage_name("graph", arm.name, arm.units), arm.model)
        candidates = [trials.serve(f"{arm.name}, fp32 graph", graph, "export")]
        int8 = space.add_int8(stage_name("int8", arm.name, arm.units), arm.model)
        if trials.affords(int8, trials.serving_seconds()):
            candidates.append(trials.serve(f"{arm.name}, int8", int8))
        for candidate in candidates:
            if candidate.verdict == "kept" and not keeps_limit(candidate, trials):
                drop_unsafe(candidate, trials)
                trials.say(f"{candidate.name} is not taken: {candidate.why}")
        return any(candidate.verdict == "kept" for candidate in candidates)

    # The pruned family

    def _prune(self) -> None:
        """Prune the baseline to several sizes in one run."""
        trials, costs = self.trials, self.trials.costs
        available = FAMILY_SHARE * trials.left()
        possible = (targets for targets in FEWER_TARGETS if self._is_stored(targets) or costs.predict("prune", len(targets)) <= available)
        targets = list(next(possible, FEWER_TARGETS[-1]))
        seconds = costs.predict("prune", len(targets))
        trials.require(trials.space.add_family(targets), seconds, "pruning")
        sizes = ", ".join(f"{target:g}" for target in targets)
        trials.say(
            f"prune the baseline in one run, to be {sizes} times as fast in int8 as the unpruned one, about {console.duration(seconds)}"
        )
        try:
            manifest, targets = self._pruned(targets)
        except (UsageError, ModelError) as error:
            trials.say(f"the baseline cannot be pruned: {error.message}")
            return
        self.family = self._arms_of(manifest, targets)
        self._calibrate()

    def _is_stored(self, targets: Sequence[float]) -> bool:
        space = self.trials.space
        name = space.add_family(targets)
        return self.trials.lab.reused(space.needed(name), name)

    def _pruned(self, targets: list[float]) -> tuple[Mapping[str, object], list[float]]:
        """Run the pruning, without the targets that are out of reach; returns its manifest and the targets."""
        trials, name = self.trials, self.trials.space.add_family(targets)
        try:
            return trials.do(name, "prune", len(targets)), targets
        except OutOfReach as error:
            reachable = [target for target in targets if target < 0.9 * error.limit]
            if not reachable:
                raise
            return trials.do(trials.space.add_family(reachable), "prune", len(reachable)), reachable

    def _arms_of(self, manifest: Mapping[str, object], targets: Sequence[float]) -> list[Arm]:
        """Return an arm for each pruned model, by rising gain, and list them as candidates."""
        trials, facts = self.trials, self.trials.space.facts
        baseline = trials.candidates[0].speed
        models = cast("Sequence[Mapping[str, object]]", manifest.get("models") or [manifest])
        error = 100 * math.sqrt(ROUGH_DISAGREEMENT / max(facts.validation, 1))
        arms: list[Arm] = []
        measured: list[Drop] = []
        for target, model in zip(sorted(targets), models, strict=True):
            score = cast("dict[str, dict[str, float]]", model["metrics"])["validation"][facts.metric]
            share = cast("float", model["flops"]) / cast("float", manifest["flops_before"])
            ratio = cast("float", model["measured_speedup"]) * (baseline.ratio if baseline else 1.0)
            gain = 1 / cast("float", model["params"]) if trials.objective.kind == "smallest" else ratio
            start = trials.space.member(target) if len(models) > 1 else "slim"
            drop = Drop(100 * (trials.score - score), error, facts.validation)
            measured.append(drop)
            arms.append(Arm(f"{target:.3g}x", start, gain, FIXED_STEP + (1 - FIXED_STEP) * share, drop, Speed(ratio), model=start))
            trials.add(SearchCandidate(f"{target:.3g}x, pruned only", start, gain, drop, Speed(ratio)), "not trained yet")
        speedups = [cast("float", model["measured_speedup"]) for model in models]
        for arm, drop in zip(arms, along_family(measured, speedups), strict=True):
            arm.drop, arm.pruned = drop, None if trials.objective.confidence else drop
        return sorted(arms, key=lambda arm: arm.gain)

    def _calibrate(self) -> None:
        """Time the fastest size as the answer will be timed, and correct the predicted speeds of all by it.

        In turns with the baseline, which fills the caches, a small model gains less than in the pruner's own timing.
        """
        trials, baseline = self.trials, self.trials.candidates[0].speed
        fastest = max(self.family, key=lambda arm: arm.speed.ratio if arm.speed else 0.0)
        if baseline is None or fastest.speed is None or fastest.speed.ratio <= baseline.ratio:
            return
        name = trials.space.add_shape(stage_name("shape", fastest.name), fastest.start)
        if not trials.affords(name, trials.serving_seconds()):
            return
        trials.do(name, "quick")
        measured = trials.time(name).ratio
        trials.say(f"timed as it will be, {fastest.name} is {measured:.3g}x as fast as the baseline, predicted {fastest.speed.ratio:.3g}x")
        self.calibration = SpeedCalibration.through(baseline.ratio, fastest.speed.ratio, measured)
        self._correct_speeds(self.family)

    def _correct_speeds(self, arms: Sequence[Arm]) -> None:
        """Correct the predicted speeds of arms, and those of their candidates."""
        for arm in arms:
            if arm.speed is not None:
                arm.speed = Speed(self.calibration.corrected(arm.speed.ratio))
                arm.gain = arm.gain if self.trials.objective.kind == "smallest" else arm.speed.ratio
            for candidate in self.trials.candidates:
                if candidate.model == arm.model:
                    candidate.speed, candidate.gain = arm.speed, arm.gain

    def _enter_rivals(self) -> None:
        """Enter students of other shapes and factorized sizes, with what is expected of them."""
        trials, kinds = self.trials, student_specs(self.trials.space.facts)
        smallest = trials.objective.kind == "smallest"
        baseline = trials.candidates[0].speed
        clock = self.clock
        timed = trials.lab.timed("shapes", lambda: _as_json(clock(list(kinds)))) if clock and trials.left() > CLOCK_SECONDS else {}
        shapes = {spec: ShapeFacts(speedup, int(params)) for spec, (speedup, params) in timed.items()}
        rivals = student_arms(shapes, kinds, self.family, baseline.ratio if baseline else 1.0, trials.space.facts, trials.costs, smallest)
        self._correct_speeds(rivals)
        if smallest:
            rivals += factorized_arms(trials.space, self.family, self.vocabulary)
        if rivals:
            named = ", ".join(f"{arm.name} ({arm.speed.ratio:.3g}x)" for arm in rivals if arm.speed)
            trials.say(f"other shapes, if they promise more than the family does: {named}")
        self.rivals = rivals

    # The race

    def _race_for_gain(self) -> None:
        """Find the size with the largest gain that keeps the limit: train, bring the best into its final form, and go on from there."""
        trials, objective = self.trials, self.trials.objective
        arms = sorted([*self.family, *self.rivals], key=lambda arm: arm.gain)
        if not arms:
            return
        limit = objective.limit - INT8_LOSS
        self.floor = trials.candidates[0].gain or min(arm.gain for arm in arms) / 2
        compared = self._recall()
        if self.family:
            first = max(self.family, key=lambda arm: (-round(abs(arm.chance(limit, trials.costs, FIRST_GUESS) - 0.5), 2), arm.gain))
            trials.say(f"race the sizes around the limit; the first guess is {first.name}")
            if trials.train(first, 1) and not compared:
                self._compare_variants(first)
        while True:
            race(arms, limit, trials, self.floor, (1 + max(SAFE, objective.confidence or 0.0)) / 2)  # the final form is measured again
            likely = [arm for arm in arms if arm.gain > self.floor and arm.model not in self.finished and (arm.units or not arm.is_rival)]
            likely = [arm for arm in likely if arm.chance(objective.limit, trials.costs) >= WORTH_QUANTIZING]
            if not likely:
                return
            best = max(likely, key=lambda arm: arm.gain)
            if self._forms_left() < 2:  # no second try: what is gained on average counts
                best = max(likely, key=lambda arm: arm.chance(objective.limit, trials.costs) * math.log(arm.gain / self.floor))
            if not self._time_to_finish(best):
                return
            self._finish(best)

    def _forms_left(self) -> int:
        """Return how many final forms there is time for."""
        trials = self.trials
        return int(trials.remaining() / trials.serving_seconds())

    def _recall(self) -> bool:
        """Take what earlier searches left in the store, which costs nothing; returns whether they compared learning without variants."""
        trials = self.trials
        compared = next((arm for arm in self.family if trials.knows_next(_plain(arm))), None)
        if compared is not None and trials.train(compared, 1):
            self._compare_variants(compared)
        known = 0
        for arm in [*self.family, *self.rivals]:
            while not arm.out and trials.knows_next(arm) and trials.train(arm, arm.next_step):
                known += 1
                int8 = trials.space.add_int8(stage_name("int8", arm.name, arm.units), arm.model)
                if trials.objective.kind != "smallest" and trials.lab.reused(trials.space.needed(int8), int8):
                    self._finish(arm)
        if known:
            trials.say(f"{known} trainings of earlier searches are known")
        return compared is not None

    def _compare_variants(self, arm: Arm) -> None:
        """See on one arm whether variants of the texts help; if not, all arms learn from the texts alone.

        For the classes of single texts they do (docs/results/distillation.md); elsewhere they may destroy what a label depends on.
        """
        trials, facts = self.trials, self.trials.space.facts
        if arm.units != 1 or not trials.space.unit().variants or (facts.target in ("class", "labels") and not facts.pairs):
            return
        plain = _plain(arm)
        trials.say(f"do variants of the texts help? {arm.name} on the texts alone, for as many steps")
        if trials.train(plain, 1) and trials.loses_to(arm, plain):
            trials.say("the texts alone are better: no variants from here on")
            for other in [*self.family, *self.rivals]:
                other.variants = False
            arm.drop, arm.model = plain.drop, plain.model

    def _race_for_accuracy(self) -> None:
        """Train the largest sizes that are fast enough."""
        trials, target = self.trials, self.trials.objective.target_latency_ms or 0.0
        fitting = [arm for arm in self.family if arm.speed and trials.baseline_ms / arm.speed.ratio <= target]
        if not fitting:
            trials.say(f"no size of the family is expected within {target:g} ms")
            others = [arm for arm in self.rivals if arm.speed and trials.baseline_ms / arm.speed.ratio <= target]
            fitting = others or self.family[-1:]
        race_for_accuracy(fitting[:2], trials)
        trained = sorted((arm for arm in fitting[:2] if arm.drop), key=lambda arm: arm.drop.points if arm.drop else 0.0)
        smaller = [arm for arm in fitting[2:] if not arm.is_rival]  # if those are slower than predicted
        for arm in [*trained, *smaller]:
            if not self._time_to_finish(arm) or self._finish(arm):
                return

    # The final forms

    def _time_to_finish(self, arm: Arm) -> bool:
        trials = self.trials
        name = trials.space.add_int8(stage_name("int8", arm.name, arm.units), arm.model)
        if trials.affords(name, trials.serving_seconds(), trials.remaining()):
            return True
        trials.say(f"{arm.name} is not quantized: there is no time for it")
        return False

    def _finish(self, arm: Arm) -> bool:
        """Bring a model into its final form; returns whether that keeps the limit, after correction."""
        trials, space, objective = self.trials, self.trials.space, self.trials.objective
        name = stage_name("int8", arm.name, arm.units)
        model = arm.model
        self.finished.add(model)
        if objective.kind == "smallest" and not arm.before:
            model = space.add_vocabulary(stage_name("words", arm.name, arm.units), arm.model)
            trials.do(model, "quick")
        try:
            gain = None if arm.is_spec else arm.gain  # a student of another shape has no neighbours
            int8 = space.add_int8(name, model)
            candidate = trials.serve(f"{arm.name}, int8", int8, gain=gain, expected=arm.expected(trials.costs, INT8_LOSS))
        except (GateMissed, Diverged) as error:
            trials.drop_arm(arm, f"it cannot be quantized: {error.message}")
            return False
        if objective.kind == "smallest":
            # In no family: int4 costs more than int8, so its drop says nothing about the int8 forms of other sizes.
            int4 = space.add_int4(stage_name("int4", arm.name, arm.units), model)
            if trials.affords(int4, trials.serving_seconds(), trials.remaining()):
                trials.serve(f"{arm.name}, int4", int4)
        kept = keeps_limit(candidate, trials)
        if candidate.speed is not None and objective.kind != "smallest":
            arm.gain = candidate.speed.ratio  # as it was measured
        if not kept and candidate.verdict == "kept":
            drop_unsafe(candidate, trials)
            trials.say(f"{candidate.name} is not taken: {candidate.why}")
        if kept:
            self.floor = max(self.floor, arm.gain)
        elif objective.kind != "most accurate":
            arm.drop = candidate.drop  # what its final form loses is what counts
        return kept


def _as_json(shapes: Mapping[str, ShapeFacts]) -> dict[str, list[float]]:
    return {spec: [facts.speedup, facts.params] for spec, facts in shapes.items()}


def _plain(arm: Arm) -> Arm:
    """Return an arm that learns from the texts alone."""
    return Arm(f"{arm.name}-plain", arm.start, arm.gain, arm.size, None, arm.speed, model=arm.start, variants=False, pruned=arm.pruned)
