"""Heads and neurons to a target: score, search, cut, refit, time what came out, and (where asked) recover."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.core import console
from compress.core.errors import UsageError
from compress.data.input_spec import Target
from compress.data.metrics import points_lost
from compress.data.unlabeled import read_unlabeled
from compress.distill import teach
from compress.editing.encoder_layers import keep_layers
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.models import shape as shapes
from compress.models.adapters import refuse_adapters
from compress.models.checkpoint import load_model
from compress.models.config import read_config
from compress.models.device import pick_device, to_tensors
from compress.models.inputs import encode_calibration
from compress.models.label_mapping import map_labels, to_model_labels
from compress.models.layers import refuse_recurrent
from compress.models.low_rank import refuse_factorized
from compress.models.model_shape import model_shape
from compress.models.sharing import refuse_shared
from compress.models.task_loss import logits_of, sampled_labels, task_loss
from compress.prune import obs
from compress.prune.baselines import torch_pruning_scores
from compress.prune.joint_refit import matched, refit_lr
from compress.prune.latency_table import latency_table
from compress.prune.refits import Refitter
from compress.prune.scores import gate_gradients
from compress.prune.search import Costs, Kept, LayerRanking, counted_costs, fitting_shares, ranked_jointly, rankings, solve
from compress.prune.serving_clock import Clock, Serving, check_serving
from compress.prune.surgery import slice_model
from compress.prune.uniform import GONE, check_plain, least_plain, solve_uniform
from compress.settings import DistillSettings, PruneSettings
from compress.stage import Inputs
from compress.training.learning_rate import default_lr

DENSE_SHARE = 0.25  # of the data scores the dense model; a smaller one, which costs less, is scored on more
TIMED_LENGTH = 32
NEAR = 0.05  # a measured speedup this near to its target is good enough
ATTEMPTS = 5
STRIDE = 0.8  # of the cost is left by each step towards a drop in accuracy
REFINEMENTS = 2  # smaller steps from the last model within the drop
GLANCE = 1000  # validation examples of a model on the way
REFITTING = ("obs", "fisher")  # methods that go in steps and refit
STRUCTURED = (*REFITTING, "taylor", "magnitude", "random")
COARSE = ("layers", "hidden")  # methods that take what they cut in few sizes


@dataclass(frozen=True)
class Goal:
    """A target in the costs' unit: the model may cost `budget`; `speedup` where time is the target."""

    name: str
    budget: float
    speedup: float | None = None


@dataclass
class Pruned:
    """A model that reached its goal, and what is known of it."""

    goal: Goal
    model: Any
    predicted: float
    measured: float
    interval: list[float]
    metrics: dict[str, Any]
    refits: dict[str, Any]


class Pruner:
    """A dense model, its calibration data and costs: what every step towards a target starts from."""

    def __init__(self, inputs: Inputs, settings: PruneSettings) -> None:
        self.inputs, self.task, self.source, self.settings, self.seed = inputs, inputs.task, inputs.source, settings, inputs.seed
        self.target: Target = self.task.spec.target
        self.device = pick_device(settings.device)
        self.dense = load_model(self.source, target=self.target)
        for refuse in (refuse_recurrent, refuse_adapters, refuse_factorized, refuse_shared):
            refuse(self.dense, "prune")
        self.before = model_shape(self.dense)
        if settings.uniform:
            check_plain(self.before, self.source.name)
        self.classes = map_labels(read_config(self.source), self.task, str(self.source.name))
        self.unlabeled = read_unlabeled(settings.unlabeled, self.task.spec) if settings.unlabeled else None
        examples = self.task.split("train") if self.unlabeled is None else self.unlabeled
        self.data = encode_calibration(self.source, examples, self.task.spec.input_spec, settings.calib_samples, inputs.seed)
        self.seq_len = settings.seq_len or round(float(self.data.lengths.mean()))
        self.serving = Serving(
            settings.runtime, settings.precision, settings.batch_size, settings.seq_len or TIMED_LENGTH, settings.threads
        )
        check_serving(self.serving)
        self.refitted = settings.refit and settings.method in REFITTING
        self.refitter = Refitter(self.dense, self.source, self.data, self.target, settings.refit_epochs, self.device, self.seed)
        self._evaluators: dict[int | None, Evaluator] = {}  # by the most examples
        self.curve: list[dict[str, Any]] = []
        self.refits: dict[str, Any] = {}
        self._bias = 1.0  # measured speedup of the last model that was timed, over what the costs predict of it
        self._expected: dict[shapes.Shape, float] = {}

    # What models cost

    @property
    def kind(self) -> str:
        """What the target counts: time, FLOPs or parameters."""
        return "flops" if self.settings.target_flops else "params" if self.settings.target_params else "time"

    @cached_property
    def costs(self) -> Costs:
        """What sublayers cost in the target's unit."""
        if self.kind == "time":
            return latency_table(self.dense, self.serving)
        return counted_costs(self.before, "params" if self.kind == "params" else "flops", self.seq_len)

    @cached_property
    def clock(self) -> Clock:
        """What times models against the dense one."""
        return Clock(self.dense, self.serving, self.seed)

    @property
    def dense_ms(self) -> float:
        """The dense model's median latency in milliseconds."""
        return 1e3 * self.clock.seconds

    def speedup(self, model: Any) -> tuple[float, list[float]]:
        """Return the measured speedup of a model over the dense one, with its 95 % interval."""
        return self.clock.speedup(model)

    def timed(self, model: Any) -> tuple[float, list[float]]:
        """Return the measured speedup as `speedup` does; note before what is expected, and learn from it how far the costs are off."""
        shape = model_shape(model)
        self.expected(shape)
        found = self.speedup(model)
        self._bias = found[0] / self.predicted(shape)
        return found

    def size(self, shape: shapes.Shape) -> int:
        """Return the encoder's parameters where these are the target, else its FLOPs; unlike the costs, of any width."""
        return shape.params() if self.kind == "params" else shape.flops(self.seq_len)

    def predicted(self, shape: shapes.Shape) -> float:
        """Return the speedup that the costs expect of a shape; of one with another width, which they do not know, by its size."""
        if shape.hidden != self.before.hidden:
            return self.size(self.before) / self.size(shape)
        return self.costs.total(self.before) / self.costs.total(shape)

    def expected(self, shape: shapes.Shape) -> float:
        """Return what was expected of a shape before it was timed: what the costs say, as far as they were right of the model before."""
        return self._expected.setdefault(shape, self.predicted(shape) * (self._bias if self.kind == "time" else 1.0))

    @cached_property
    def smallest(self) -> shapes.Shape:
        """The smallest shape that can come out: one head in the first layer or, where all widths are one, a plain layer."""
        if self.settings.uniform:
            return least_plain(self.before)
        layers = [shapes.LayerShape(0, 0)] * len(self.before.layers)
        return replace(self.before, layers=(shapes.LayerShape(1, 0), *layers[1:]))

    # The way

    def reach(self, goals: Sequence[Goal]) -> Iterator[Pruned]:
        """Yield a model for each goal, each cut out of the one before."""
        model = copy.deepcopy(self.dense)
        for goal in goals:
            left = None if self.settings.steps == "auto" else self.settings.steps
            epochs, each = self.settings.recover_epochs, 0
            while True:
                budgets = self._budgets(model, self._corrected(goal), left)
                last = len(budgets) == 1
                if self.settings.recover == "between":
                    each = each or max(1, epochs // len(budgets))
                model = self.step(model, budgets[0], goal.speedup if last else None)
                if last:
                    break
                left = None if left is None else left - 1
                spent = max(0, min(each, epochs - 1))  # one is left for the end
                model, epochs = self.recover(model, spent), epochs - spent
                self._note(model, timed=goal.speedup is not None)
            model = self.complete(model, epochs)
            yield self.finish(goal, model)

    def fastest_within(self, drop: float) -> Pruned:
        """Return the fastest model that loses at most `drop` points of the task's metric on validation.

        Steps go down until one loses too much; then smaller ones are tried from the last that did not.
        """
        full = self.dense_score()
        best, refits, share, refinements = copy.deepcopy(self.dense), self.refits, STRIDE, 0
        while refinements <= REFINEMENTS:
            cost = self.costs.total(model_shape(best))
            try:
                model = self.step(copy.deepcopy(best), self.costs.fixed + share * (cost - self.costs.fixed), None)
            except UsageError:  # nothing is left to cut
                break
            model = self.complete(model)
            if points_lost(full, self._note(model, whole=True, timed=True)) <= drop:
                best, refits = model, self.refits
            else:
                share, refinements = math.sqrt(share), refinements + 1
        if model_shape(best) == self.before:
            raise UsageError(
                f"no smaller model keeps within {drop:g} points of {full:.4f} on validation",
                "allow more with --max-drop, or let it recover: --recover-epochs 3",
            )
        self.refits = refits
        return self.finish(Goal(f"drop {drop:g}", self.costs.total(model_shape(best))), best)

    def _corrected(self, goal: Goal) -> float:
        """Return a goal's budget by what was measured of the model before, which tells how far the costs are off for those to come."""
        if goal.speedup is None:
            return goal.budget
        return max(goal.budget * min(1.0, self._bias), self._least)  # they never promise less

    @property
    def _least(self) -> float:
        """The least budget to search within: what is smallest, and a little for costs that are rounded up."""
        return 1.01 * self.costs.total(self.smallest)

    def _budgets(self, model: Any, goal: float, steps: int | None) -> list[float]:
        """Return the budgets of the steps from a model to a goal: equal factors of what can be cut."""
        shape = model_shape(model)
        fixed, start = self.costs.fixed, self.costs.total(shape)
        share = (goal - fixed) / (start - fixed)
        if self.settings.method not in REFITTING or not 0 < share < 1:
            return [goal]
        return [fixed + part * (start - fixed) for part in fitting_shares(share, steps, shape == self.before)]

    def step(self, model: Any, budget: float, speedup: float | None) -> Any:
        """Return the model cut to a budget and refitted; with `speedup` the budget is moved until that is measured."""
        ranked = self.rank(model)
        model.to("cpu")
        if speedup is None:
            self.cut(model, self.choose(ranked, budget))
        else:
            self.cut(model, self._timed_choice(model, ranked, budget, speedup))
        if self.refitted:
            self.refits = self.refitter.closed_forms(model, self.origins(model))
        return model

    def choose(self, ranked: list[LayerRanking], budget: float) -> list[Kept]:
        """Return what to keep within a budget."""
        return (solve_uniform if self.settings.uniform else solve)(ranked, self.costs, budget)

    def cut(self, model: Any, kept: list[Kept]) -> None:
        """Cut a model in place; with equal widths, layers that lose everything go as a whole."""
        slice_model(model, kept)
        if self.settings.uniform:
            stay = [number for number, layer in enumerate(kept) if layer != GONE]
            model.origins = [self.origins(model)[number] for number in stay]
            keep_layers(model, stay)

    def origins(self, model: Any) -> list[int]:
        """Return the positions that a model's layers had in the dense one."""
        return getattr(model, "origins", None) or list(range(len(self.before.layers)))

    def _timed_choice(self, model: Any, ranked: list[LayerRanking], budget: float, speedup: float) -> list[Kept]:
        """Solve, time the sliced model, and solve again with another budget until the speedup is measured."""
        nearest: tuple[float, list[Kept]] | None = None
        for _ in range(ATTEMPTS):
            kept = self.choose(ranked, budget)
            candidate = copy.deepcopy(model)
            self.cut(candidate, kept)
            found = self.timed(candidate)[0]
            miss = abs(found / speedup - 1)
            if nearest is None or miss < nearest[0]:
                nearest = miss, kept
            if miss <= NEAR / 2:
                break
            budget = max(budget * found / speedup, self._least)
        assert nearest is not None  # noqa: S101 (one attempt at least)
        return nearest[1]

    def _note(self, model: Any, whole: bool = False, timed: bool = False) -> float:
        """Add a model on the way to the curve; returns its score on validation."""
        metrics = self.validate(model, None if whole else GLANCE)
        point = self._point(model, metrics)
        if timed:
            self.timed(model)
        self.curve.append(point)
        if metrics:
            console.info(f"  {self._progress(model_shape(model))}, validation {100 * point['score']:.2f}")
        return point["score"]

    def _point(self, model: Any, metrics: dict[str, Any]) -> dict[str, Any]:
        """Return a model's point of the curve."""
        shape = model_shape(model)
        score = metrics.get(self.task.spec.main_metric, math.nan)
        return {"predicted_speedup": self.expected(shape), "score": score, "layers": shape.as_json()}

    def _progress(self, shape: shapes.Shape) -> str:
        ratio = self.expected(shape)
        return f"{ratio:.2f}x (predicted)" if self.kind == "time" else f"{100 / ratio:.1f} % of the {self.kind}"

    def finish(self, goal: Goal, model: Any) -> Pruned:
        """Measure a model that has reached its goal."""
        metrics = self.validate(model)
        point = self._point(model, metrics)
        speedup, interval = self.timed(model)
        self.curve.append({**point, "measured_speedup": speedup, "goal": goal.name})
        return Pruned(goal, copy.deepcopy(model), point["predicted_speedup"], speedup, interval, metrics, self.refits)

    # The parts

    def rank(self, model: Any) -> list[LayerRanking]:
        """Rank the units of a model as it stands."""
        method = self.settings.method
        model.to(self.device)
        share = model_shape(model).flops(self.seq_len) / self.before.flops(self.seq_len)
        batches = self.refitter.batches(min(1.0, DENSE_SHARE / max(share, 1e-6)))
        with console.progress("scoring units", len(batches)) as advance:

            def counted() -> Iterator[Any]:
                for positions in batches:
                    yield positions
                    advance()

            if method == "obs":
                gathered = obs.factors(model, counted(), self.loss(model))
                return obs.rankings(model.to("cpu"), gathered)
            if method == "fisher":
                gradients = gate_gradients(model, counted(), self.loss(model))
                return [LayerRanking(ranked_jointly(layer.heads), ranked_jointly(layer.neurons)) for layer in gradients]
            mean = self.loss(model, summed=False)
            kind: Any = method
            return rankings(torch_pruning_scores(model.to("cpu"), kind, counted(), mean, self.seed))

    def loss(self, model: Any, summed: bool = True) -> Callable[[np.ndarray], torch.Tensor]:
        """Return the loss of a batch of the calibration data: by its labels, or by labels drawn from the model."""
        target = self.target
        given = self.unlabeled is None
        data = replace(self.data, labels=to_model_labels(self.data.labels, target, self.classes)) if given else self.data
        draw = torch.Generator().manual_seed(self.seed)

        def loss_of(positions: np.ndarray) -> torch.Tensor:
            batch = to_tensors(data.batch(positions), model, model.device)
            logits = logits_of(model(**batch))
            labels = torch.from_numpy(data.targets(positions)).to(model.device)
            if self.settings.method in REFITTING or not given:
                labels = sampled_labels(logits.detach(), labels, batch["attention_mask"], target, draw)
            return task_loss(logits, labels, batch["attention_mask"], target, summed=summed)

        return loss_of

    def complete(self, model: Any, epochs: int | None = None) -> Any:
        """Train a model that is as small as it shall be: the joint refit, and recovery where that is asked for."""
        if self.refitted:
            self.refits |= self.refitter.jointly(model, self.origins(model))
        return self.recover(model, epochs)

    def recover(self, model: Any, epochs: int | None = None) -> Any:
        """Distil the dense model into a pruned one, on training and unlabeled texts, by default for all epochs that are asked for."""
        epochs = self.settings.recover_epochs if epochs is None else epochs
        if not epochs:
            return model
        options: dict[str, Any] = {
            "epochs": epochs,
            "lr": self.settings.recover_lr,
            "augment": self.settings.augment,
            "augment_model": self.settings.augment_model,
            "device": self.settings.device,
        }
        if model_shape(model).hidden == self.before.hidden:
            options |= {"lr": options["lr"] or refit_lr(model), **matched(self.origins(model))}
        else:  # states of another width take learned maps: one, of the last, is enough
            options |= {"lr": options["lr"] or default_lr(model), "method": ["logits", "hidden"]}
        settings = DistillSettings.model_validate(options)
        resume = self.inputs.resume
        taught = teach(
            model, self.dense, self.source, self.task, self.unlabeled, self.classes, settings, self.seed,
            resume=resume, lr_option="--recover-lr",
        )  # fmt: skip
        if taught.fitted.diverged:
            raise taught.fitted.diverged
        return model.to("cpu")

    def dense_score(self) -> float:
        """Return the dense model's score on validation.

        Raises:
            UsageError: the task has no such split.
        """
        metrics = self.validate(self.dense)
        if not metrics:
            raise UsageError("--max-drop needs labels to measure the drop on", "give --validation, or another target")
        return metrics[self.task.spec.main_metric]

    def validate(self, model: Any, at_most: int | None = None, tokenizer: Path | None = None) -> dict[str, Any]:
        """Measure a model on validation (its first examples); nothing, where the task has no such split."""
        if "validation" not in self.task.available:
            return {}
        if at_most not in self._evaluators:
            self._evaluators[at_most] = Evaluator(self.task, "validation", self.source, self.classes, at_most)
        evaluator = self._evaluators[at_most]
        data = None if tokenizer is None else evaluator.encoded(tokenizer)
        return {"n": len(evaluator), **evaluator.score(torch_forward(model.to("cpu")), data)}
