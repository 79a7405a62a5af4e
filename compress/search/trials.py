"""Trials: run the stages of a search within its budget, measure what they made, and learn what they cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

from compress.core import console
from compress.core.errors import Diverged, ModelError, UsageError
from compress.results import BenchDocument, EvalDocument
from compress.search.candidates import SearchCandidate, Speed
from compress.search.costs import SearchCosts
from compress.search.estimates import Drop
from compress.search.explain import candidate_line
from compress.search.objective import Objective
from compress.search.race import Arm
from compress.search.space import Space, Stages, Unit, stage_name

ResultT = TypeVar("ResultT")
MEASURING = ("eval", "bench")
BY_LAYERS = ("train", "shallow")  # kinds of training in which layers are compared with the teacher's
WORSE = 0.95  # probability from which an arm is worse than another
GRACE = 0.05  # of the budget, to measure what was made when that took longer than predicted


class Lab(Protocol):
    """Runs stages in a store and keeps the time of the search.

    The clock counts what the stages of this search have taken, also before it was killed and resumed. So a resumed search decides
    as it would have decided without the interruption.
    """

    def run(self, stages: Stages, name: str) -> Mapping[str, object]:
        """Run a stage, whose inputs are finished, and return its manifest."""
        ...

    def reused(self, stages: Stages, name: str) -> bool:
        """Return whether an earlier search left this stage in the store, so that it costs nothing."""
        ...

    def stored(self, stages: Stages) -> set[str]:
        """Return which stages an earlier search left in the store, those that depend on one another included; nothing runs."""
        ...

    def seconds_of(self, name: str) -> float:
        """Return how long a stage took when it ran."""
        ...

    def spent(self) -> float:
        """Return the seconds of this search so far."""
        ...

    def timed(self, name: str, work: Callable[[], ResultT]) -> ResultT:
        """Do work that is no stage, and count its time."""
        ...


class OutOfTime(Exception):
    """What comes next does not fit into the budget."""


@dataclass
class Trials:
    """The trials of a search.

    Attributes:
        lab: runs stages.
        space: builds them.
        objective: what is looked for.
        budget: seconds of wall time.
        costs: what is known of costs and losses.
        show: prints a line for the user.
        log: what was done, in words.
        candidates: everything that was tried.
        score: the baseline's main metric on validation.
        latencies_ms: of the baseline in PyTorch fp32, one for each time that it was timed.
        outputs: kinds of training and numbers of variants for which the teacher's outputs are known.
        forms: final forms that time is reserved for.
    """

    lab: Lab
    space: Space
    objective: Objective
    budget: float
    costs: SearchCosts
    show: Callable[[str], None] = console.info
    log: list[str] = field(default_factory=list)
    candidates: list[SearchCandidate] = field(default_factory=list)
    score: float = math.nan
    latencies_ms: list[float] = field(default_factory=list)
    outputs: set[tuple[str, int]] = field(default_factory=set)
    forms: int = 0

    def say(self, text: str) -> None:
        """Explain a step."""
        self.log.append(text)
        self.show(text)

    # Time

    def left(self) -> float:
        """Return the seconds that are left for stages, with the ending reserved."""
        return self.budget - self.lab.spent() - self.reserve()

    def reserve(self) -> float:
        """Return the seconds that the ending takes: the form of the best model, the verdict, delivery."""
        verdict = self.costs.predict("eval", 2 * self.space.facts.judged) + self.costs.predict("bench") + self.costs.predict("finish")
        return verdict + self.forms * self.serving_seconds()

    def serving_seconds(self) -> float:
        """Return the seconds that it takes to make an artifact and to measure it."""
        checked = self.costs.predict("eval", 2 * self.space.facts.validation)
        return self.costs.predict("quantize") + checked + self.costs.predict("bench")

    def remaining(self) -> float:
        """Return the seconds until the verdict must begin: `left`, and the time that is reserved for final forms."""
        return self.left() + self.forms * self.serving_seconds()

    def affords(self, name: str, seconds: float, left: float | None = None) -> bool:
        """Return whether a stage fits into what is left; one that an earlier search left in the store always does."""
        return self.lab.reused(self.space.needed(name), name) or seconds <= (self.left() if left is None else left)

    def require(self, name: str, seconds: float, what: str) -> None:
        """Check that a stage fits.

        Raises:
            OutOfTime: it does not.
        """
        if not self.affords(name, seconds):
            left = console.duration(max(self.left(), 0.0))
            raise OutOfTime(f"{what} would take about {console.duration(seconds)}, and {left} are left for it")

    # Stages

    def do(self, name: str, kind: str, units: float = 0.0, must: bool = False) -> Mapping[str, object]:
        """Run a stage, and learn what it cost.

        Args:
            name: of the stage.
            kind: of its work.
            units: of it.
            must: whether it runs whatever the time: there is no answer without it.

        Raises:
            OutOfTime: it would end after the budget.
        """
        stages = self.space.needed(name)
        reused = self.lab.reused(stages, name)
        if not reused and not must:
            self._check_fits(name, kind, self.costs.predict(kind, units))
        manifest = self.lab.run(stages, name)
        if not reused:
            self.costs.learn(kind, units, self.lab.seconds_of(name))
        return manifest

    def _check_fits(self, name: str, kind: str, seconds: float) -> None:
        """Check that a stage ends in time; a measurement of what was made may use a little more."""
        if seconds > self.remaining() + (GRACE * self.budget if kind in MEASURING else 0.0):
            raise OutOfTime(f"{name} would take about {console.duration(seconds)}, and there is no time for it")

    def check(self, model: str, must: bool = False) -> Drop:
        """Evaluate a model on validation, paired with the baseline."""
        facts = self.space.facts
        document = cast("EvalDocument", self.do(self.space.add_check(model), "eval", 2 * facts.validation, must))
        self.score = document["results"][0]["metrics"][document["main_metric"]]
        return drop_of(document)

    def time(self, model: str, must: bool = False) -> Speed:
        """Time an artifact, interleaved with the baseline."""
        document = cast("BenchDocument", self.do(self.space.add_timing(model), "bench", must=must))
        baseline, last = document["results"][0], document["results"][-1]
        self.latencies_ms.append(baseline["latency_ms"]["p50"])
        low, high = last["speedup"]["ci95"]
        return Speed(last["speedup"]["ratio"], (low, high), last["latency_ms"]["p50"])

    @property
    def baseline_ms(self) -> float:
        """The latency of the baseline in PyTorch fp32: the median of its timings."""
        return statistics.median(self.latencies_ms) if self.latencies_ms else math.nan

    def latency_ms(self, speed: Speed | None) -> float | None:
        """Return a latency on the scale of the baseline's: so timings at different loads of the machine can be compared."""
        return None if speed is None else self.baseline_ms / speed.ratio

    def serve(
        self, name: str, artifact: str, kind: str = "quantize", gain: float | None = None, must: bool = False, expected: Drop | None = None
    ) -> SearchCandidate:
        """Make an artifact, evaluate it and time it: a candidate that can be the answer. `must`: see `do`; `expected`: its drop."""
        manifest = self.do(artifact, kind, must=must)
        drop, speed = self.check(artifact, must), self.time(artifact, must)
        candidate = SearchCandidate(name, artifact, gain, drop, speed, expected=None if self.objective.confidence else expected)
        candidate.size_mb = cast("float", manifest["size_mb"])
        candidate.seconds = self.lab.seconds_of(artifact)
        self.add(candidate)
        return candidate

    def add(self, candidate: SearchCandidate, why: str = "") -> None:
        """Add a candidate, judged by what was measured, and print its line."""
        keeps = self.objective.keeps(candidate.drop, self.latency_ms(candidate.speed))
        candidate.verdict = "kept" if keeps else "dropped"
        candidate.why = why or ("keeps the limit" if keeps else self.objective.excess(candidate.drop, self.latency_ms(candidate.speed)))
        self.candidates.append(candidate)
        self.show(candidate_line(candidate, self.score, self.baseline_ms))

    # Training

    def seconds_to(self, arm: Arm, units: int) -> float:
        """Return the seconds of training an arm up to this many units in total, and of measuring it after each doubling."""
        unit, work = self.space.unit(arm.variants), (units - arm.units) * arm.size
        steps = max(1, round(math.log2(units / arm.units)) if arm.units else 1 + round(math.log2(units)))
        texts = self._new_texts(arm, unit, units - arm.units)
        outputs = self.costs.predict("outputs", texts) if texts else 0.0
        checks = steps * self.costs.predict("eval", 2 * self.space.facts.validation)
        start = sum(self.costs.predict(kind) for _, kind in arm.before) if not arm.units else 0.0
        return start + outputs + checks + self.costs.predict(arm.kind, work * unit.steps) + (steps - 1) * self.costs.predict(arm.kind, 0.0)

    def knows_next(self, arm: Arm) -> bool:
        """Return whether an earlier search left the next step of an arm's training in the store."""
        for start, kind in () if arm.units else arm.before:
            if not self.lab.reused(self.space.needed(start), start):
                return False
            self.do(start, kind)
        name = self._add_step(arm, arm.next_step)
        return self.lab.reused(self.space.needed(name), name)

    def _add_step(self, arm: Arm, total: int) -> str:
        """Add the stage that trains an arm up to this many units."""
        unit = self.space.unit(arm.variants)
        name = stage_name("student", arm.name, total)
        is_spec, by_layers = arm.is_spec and not arm.units, arm.kind in BY_LAYERS
        return self.space.add_student(name, arm.model or arm.start, total - arm.units, unit, is_spec, by_layers)

    def train(self, arm: Arm, units: int) -> bool:
        """Train an arm up to this many units in total, doubling them step by step; False if there is no time for it."""
        while not arm.out and arm.units < units:
            if not self._train_step(arm, min(arm.next_step, units)):
                return False
        return not arm.out

    def _train_step(self, arm: Arm, total: int) -> bool:
        space, unit, name = self.space, self.space.unit(arm.variants), self._add_step(arm, total)
        seconds = self.seconds_to(arm, total)
        if not self.affords(name, seconds):
            left = console.duration(max(self.left(), 0.0))
            goal = f"{total} {'unit' if total == 1 else 'units'}"
            self.say(f"{arm.name} is not trained to {goal}: that takes about {console.duration(seconds)}, and {left} are left")
            return False
        try:
            for start, kind in () if arm.units else arm.before:
                self.do(start, kind)
            reused = self.lab.reused(space.needed(name), name)
            manifest = self.lab.run(space.needed(name), name)
        except Diverged as error:
            self.drop_arm(arm, f"its training diverged ({error.message})")
            return False
        except (UsageError, ModelError) as error:
            if not arm.is_rival:
                raise
            self.drop_arm(arm, error.message)
            return False
        if not reused:
            work, texts = (total - arm.units) * unit.steps * arm.size, self._new_texts(arm, unit, total - arm.units)
            self._learn_training(name, manifest, arm.kind, work, texts)
        self.outputs.add((arm.kind, unit.variants))
        before, arm.drop = arm.drop, self.check(name)
        if before is not None and not arm.is_rival:
            self.costs.learn_recovery("doubled" if arm.units else "first", before.points, arm.drop.points)
        arm.units, arm.model = total, name
        candidate = SearchCandidate(f"{arm.name} trained, {total} unit{'s'[: total - 1]}", name, arm.gain, arm.drop, arm.speed)
        candidate.expected = arm.expected(self.costs)
        candidate.seconds = self.lab.seconds_of(name)
        self.add(candidate)
        return True

    def _new_texts(self, arm: Arm, unit: Unit, units: int) -> int:
        """Return the texts of a training of which the teacher's outputs are not known yet."""
        if unit.sample:
            return units * unit.texts
        return 0 if (arm.kind, unit.variants) in self.outputs else unit.texts

    def _learn_training(self, name: str, manifest: Mapping[str, object], kind: str, work: float, texts: int) -> None:
        """Learn from a training: its steps, and what came before them: mostly the teacher's outputs."""
        total = self.lab.seconds_of(name)
        training = cast("Mapping[str, float]", manifest.get("training") or {}).get("seconds", total)
        if texts:
            self.costs.learn("outputs", texts, max(total - training, 0.0))
            total = min(total, training)
        self.costs.learn(kind, work, total)

    def loses_to(self, arm: Arm, other: Arm) -> bool:
        """Return whether an arm is worse than another beyond chance, on the same examples."""
        name = self.space.add_duel(other.model, arm.model)
        if not self.affords(name, self.costs.predict("eval", 2 * self.space.facts.validation)):
            return False
        document = cast("EvalDocument", self.do(name, "eval", 2 * self.space.facts.validation))
        return 1 - drop_of(document).probability(0.0) >= WORSE

    def drop_arm(self, arm: Arm, why: str) -> None:
        """Take an arm out of the race."""
        arm.out = why
        self.say(f"{arm.name} is dropped: {why}")
        for candidate in self.candidates:
            if candidate.model == arm.model:
                candidate.verdict, candidate.why = "dropped", why


def drop_of(document: EvalDocument) -> Drop:
    """Return the drop of the last model of an evaluation against the first, paired."""
    comparison = document["results"][-1]["vs_first"]  # pyright: ignore[reportTypedDictNotRequiredAccess] (it is not the first model)
    return Drop.of_comparison(comparison["delta"], comparison["ci95"], document["n"])
