"""A made-up landscape for searches: a lab whose stages take no time, with known accuracies, latencies and costs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from compress.core.digests import digest_json
from compress.core.errors import UsageError
from compress.prune.targets import OutOfReach
from compress.search.costs import SearchCosts
from compress.search.objective import Objective, ServingPoint
from compress.search.shape_clock import ShapeFacts
from compress.search.space import Space, Stages, TaskFacts, references
from compress.search.strategy import Search
from compress.search.trials import Trials

FACTS = TaskFacts("class", False, "accuracy", 6920, 0, 872, 1821, "test", 25.0, 384, 6)
SERVING = ServingPoint(1, 32, 1, "auto")
BASELINE_MS = 12.0
# Shares of the variance of a drop's error, as measured on SST-2 and SICK: what all models have in common (the baseline's luck), and what
# models of one size have in common beyond that.
COMMON, OF_SIZE = 0.5, 0.15
UNPRUNED_ERROR = 0.5  # error of the unpruned int8 form's drop, relative to that of pruned sizes


@dataclass(frozen=True)
class Model:
    """A model of the landscape: its true drop in points, its speedup as an int8 graph, the steps of its training, its parameters."""

    drop: float
    speedup: float
    steps: float = 0.0
    share: float = 1.0  # of the baseline's FLOPs
    pruned_drop: float = 0.0
    artifact: bool = False
    params: float = 22e6


@dataclass(frozen=True)
class Student:
    """A student of another shape: its speedup over the baseline in int8, its parameters, its points beyond a pruned size as fast."""

    speedup: float
    params: int
    beyond: float


STUDENTS = {  # as MiniLM's are on a server, with what they lose on SST-2
    "layers=1": Student(25.0, 13_800_000, 6.0),
    "layers=2": Student(4.4, 15_600_000, 3.0),
    "layers=3": Student(2.4, 17_400_000, 3.0),
    "layers=4,hidden=192,ffn=384": Student(6.0, 7_200_000, 5.0),
    "bilstm": Student(12.8, 9_800_000, 3.0),
}


@dataclass
class Landscape:
    """What is true.

    Attributes:
        int8: speedup of the baseline in int8.
        loss: true drop of a pruned model, (loss) * (target - 1) ^ power.
        power: of it.
        floor: share of that drop that no training brings back.
        half: training steps that bring back half of the rest.
        static_drop: of a student without an encoder.
        step: seconds of a step of the baseline.
        limit: the largest speedup that pruning reaches.
        error: of a measured drop, in points; 0 for exact measurements.
        luck: seed of the errors.
        shapes: students of other shapes; empty: they are not timed.
        prunes: whether the model can be pruned.
        uneven: standard deviation of the logarithm of a size's loss around the family's.
    """

    int8: float = 3.6
    loss: float = 0.35
    power: float = 1.5
    floor: float = 0.2
    half: float = 400.0
    static_drop: float = 7.0
    step: float = 0.3
    limit: float = 40.0
    error: float = 0.6
    luck: int = 0
    shapes: Mapping[str, Student] = field(default_factory=dict)
    prunes: bool = True
    uneven: float = 0.0

    def pruned(self, target: float) -> float:
        """Return the true drop of a pruned model."""
        return self.loss * (target - 1) ** self.power * math.exp(self.uneven * self.draw("pruned", target))

    def draw(self, *facts: object) -> float:
        """Return a standard normal number that depends on these facts and on the landscape's luck."""
        return float(np.random.default_rng(int(digest_json([self.luck, *facts])[:8], 16)).standard_normal())

    def trained(self, pruned_drop: float, steps: float) -> float:
        """Return the true drop after training."""
        return pruned_drop * (self.floor + (1 - self.floor) * self.half / (self.half + steps))


@dataclass
class FakeLab:
    """Runs stages of the landscape.

    Attributes:
        truth: the landscape.
        store: seconds of finished stages by key, shared by searches.
        entries: the ledger: key to (reused, seconds).
        die_after: stages after which the process is killed.
    """

    truth: Landscape
    store: dict[str, float] = field(default_factory=dict)
    entries: dict[str, tuple[bool, float]] = field(default_factory=dict)
    die_after: int = 10**9
    models: dict[str, Model] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    visited: set[str] = field(default_factory=set)
    train: int = FACTS.train

    def run(self, stages: Stages, name: str) -> Mapping[str, object]:
        """Run a stage."""
        if len(self.ran) >= self.die_after:
            raise Killed
        key = self._key(stages, name)
        manifest, seconds = self._made(stages, name)
        reused = key in self.store
        if not reused:
            self.ran.append(name)
        self.entries.setdefault(key, (reused, 0.5 if reused else seconds))
        self.store.setdefault(key, seconds)
        self.seconds[name] = seconds
        self.visited.add(key)
        return manifest

    def reused(self, stages: Stages, name: str) -> bool:
        """Return whether another search has run the stage."""
        key = self._key(stages, name)
        return self.entries[key][0] if key in self.entries else key in self.store

    def stored(self, stages: Stages) -> set[str]:
        """Return which stages another search has run."""
        return {name for name in stages if self.reused(stages, name)}

    def seconds_of(self, name: str) -> float:
        """Return how long a stage took."""
        return self.seconds[name]

    def timed(self, name: str, work: Callable[[], Any]) -> Any:
        """Do work that takes 15 seconds."""
        self.entries.setdefault(name, (False, 15.0))
        self.visited.add(name)
        return work()

    def shapes(self, specs: Sequence[str]) -> dict[str, ShapeFacts]:
        """Return how fast and large students are."""
        return {spec: ShapeFacts(self.truth.shapes[spec].speedup, self.truth.shapes[spec].params) for spec in specs}

    def spent(self) -> float:
        """Return the seconds of this search."""
        return 5.0 + sum(self.entries[key][1] for key in self.visited)

    def _key(self, stages: Stages, name: str) -> str:
        inputs = {other: self._key(stages, other) for other in sorted(references(stages[name]) & stages.keys() - {name})}
        return digest_json([stages[name], inputs])

    def _made(self, stages: Stages, name: str) -> tuple[dict[str, Any], float]:
        fields = stages[name]
        handlers = {"finetune": self._finetune, "prune": self._prune, "distill": self._distill, "eval": self._eval, "bench": self._bench}
        handlers |= {"quantize": self._graph, "export": self._graph, "factorize": self._factorize}
        return handlers[str(fields["do"])](name, fields)

    def _model(self, reference: object) -> Model:
        return Model(0.0, 1.0) if reference == "model" else self.models[str(reference)]

    def _finetune(self, name: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        self.models[name] = Model(0.0, 1.0)
        return {}, 10 + fields["epochs"] * fields.get("max_examples", self.train) / 32 * self.truth.step

    def _prune(self, name: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        if fields.get("method") == "vocab":
            whole = self._model(fields["from"])
            self.models[name] = replace(whole, params=whole.params - 3e6)
            return {}, 5.0
        if not self.truth.prunes:
            raise UsageError("this family cannot be pruned", "distil it")
        targets = fields["target_speedup"]
        if max(targets) >= self.truth.limit:
            raise OutOfReach("out of reach", "ask for less", self.truth.limit)
        entries = []
        for target in sorted(targets):
            drop, share = self.truth.pruned(target), 1 / target
            pruned = Model(drop, self.truth.int8 * target, 0, share, drop, params=12e6 + 10e6 * share)
            self.models[f"{name}/{target:.3g}x" if len(targets) > 1 else name] = pruned
            score = 0.88 - (drop + self.truth.error * self._luck(pruned, "validation", target)) / 100
            entries.append(
                {
                    "folder": f"{target:.3g}x",
                    "measured_speedup": target,
                    "flops": share * 1e9,
                    "params": 12e6 + 10e6 * share,
                    "metrics": {"validation": {"accuracy": score, "n": FACTS.validation}},
                }
            )
        return {"models": entries, "flops_before": 1e9} if len(entries) > 1 else {**entries[0], "flops_before": 1e9}, 60 + 40 * len(entries)

    def _distill(self, name: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        texts = fields.get("max_examples", self.train) * (1 + fields.get("augment", 0))
        steps = fields["epochs"] * math.ceil(texts / 32)
        if (shape := self.truth.shapes.get(fields.get("student", ""))) is not None:
            start, training = self.truth.pruned(shape.speedup) + shape.beyond, steps * self.truth.step * 0.4
            drop, speedup = self.truth.trained(start, steps), self.truth.int8 * shape.speedup
            self.models[name] = Model(drop, speedup, steps, 1 / shape.speedup, start, params=shape.params)
            return {"training": {"seconds": training, "steps": steps}}, training + 15
        if "student" in fields:
            self.models[name] = Model(self.truth.static_drop, 300.0, steps, 0.01, self.truth.static_drop)
            return {"training": {"seconds": 40.0, "steps": steps}}, 45.0
        before = self._model(fields["from"])
        after = before.steps + steps * (1.0 if fields.get("augment") else 0.5)
        drop = self.truth.trained(before.pruned_drop, after)
        self.models[name] = replace(before, drop=drop, steps=after)
        training = steps * self.truth.step * (0.25 + 0.75 * before.share)
        return {"training": {"seconds": training, "steps": steps}}, training + 15

    def _graph(self, name: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        source = self._model(fields["from"])
        int8 = fields["do"] == "quantize"
        speedup = source.speedup if source.speedup > 1 else self.truth.int8 if int8 else 1.6
        self.models[name] = Model(source.drop + (0.2 if int8 else 0.0), speedup, pruned_drop=source.pruned_drop, artifact=True)
        method = fields.get("method")
        width = {"int4": 0.5, "dynamic": 1.0, None: 1.0}[method] if int8 else 4.0
        return {"size_mb": width * source.params / 1e6}, 60.0 if int8 and method != "dynamic" else 10.0

    def _factorize(self, name: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        whole = self._model(fields["from"])
        lost = whole.pruned_drop + 0.5
        self.models[name] = replace(whole, drop=lost, pruned_drop=lost, params=whole.params - 7.5e6)
        return {}, 30.0

    def _eval(self, name: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        first, last = (self._model(model) for model in fields["from"])
        n = FACTS.judged if fields["split"] == "test" else FACTS.validation
        error = self.truth.error * math.sqrt(FACTS.validation / n) * (1.0 if last.pruned_drop else UNPRUNED_ERROR)
        delta = (first.drop - last.drop - error * self._luck(last, fields["split"], name, fields["from"])) / 100
        half = 1.96 * max(error, 0.01) / 100
        score = 0.88 - first.drop / 100
        comparison = {"metric": "accuracy", "delta": delta, "ci95": [delta - half, delta + half], "p_value": 0.5, "test": "McNemar"}
        results = [
            {"model": fields["from"][0], "metrics": {"accuracy": score}, "ci95": {}},
            {"model": fields["from"][1], "metrics": {"accuracy": score + delta}, "ci95": {}, "vs_first": comparison},
        ]
        return {"results": results, "main_metric": "accuracy", "n": n, "split": fields["split"]}, 8.0

    def _luck(self, model: Model, split: str, *own: object) -> float:
        """Return the error of a model's drop on a split, in standard errors."""
        size = round(model.speedup, 3)
        facts = {COMMON: ("all",), OF_SIZE: ("size", size), 1 - COMMON - OF_SIZE: own}
        return sum(math.sqrt(share) * self.truth.draw(*of, split) for share, of in facts.items())

    def _bench(self, name: str, fields: Mapping[str, Any]) -> tuple[dict[str, Any], float]:
        ratio = self._model(fields["from"][1]).speedup
        results = [
            {
                "model": model,
                "latency_ms": {"p50": BASELINE_MS / speedup},
                "speedup": {"ratio": speedup, "ci95": [0.98 * speedup, 1.02 * speedup]},
            }
            for model, speedup in zip(fields["from"], (1.0, ratio), strict=True)
        ]
        return {"results": results}, 6.0


class Killed(Exception):
    """The process was killed."""


def search_on(lab: FakeLab, budget: float = 2700.0, trained: bool = False, students: tuple[str, ...] = (), **objective: Any) -> Search:
    """Return a search on a landscape."""
    limits = {"kind": "fastest", "max_drop": 1.0} if not objective else {"kind": "fastest", **objective}
    space = Space(replace(FACTS, train=lab.train), SERVING, trains_baseline=not trained)
    trials = Trials(lab, space, Objective(**limits), budget, SearchCosts(), show=lambda line: None)
    return Search(trials, students, lab.shapes if lab.truth.shapes else None, vocabulary=30_522)


def as_text(search: Search) -> str:
    """Return what a search did, to compare two."""
    return json.dumps([search.trials.log, [vars(candidate) for candidate in search.trials.candidates]], default=str)
