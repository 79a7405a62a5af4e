"""Structured pruning: the stage `prune`. Scores, search, surgery and reconstruction are pure functions beside it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress import console
from compress.errors import UsageError
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.measure.latency import quick_speedup, random_batch
from compress.model import shape as shapes
from compress.model.artifact import open_session, session_forward
from compress.model.checkpoint import count_params, load_model, model_shape, save_model
from compress.model.config import read_config
from compress.model.device import Batch, pick_device, to_tensors
from compress.model.objective import logits_of, sampled_labels, task_loss
from compress.model.scorer import Forward, measure, torch_forward
from compress.prune import scores as scoring
from compress.prune.reconstruct import reconstruct
from compress.prune.search import Costs, fitting_shares, measured_costs, select, unit_costs
from compress.prune.surgery import slice_model
from compress.settings import PruneSettings
from compress.stage import Inputs
from compress.task.encode import Encoded, encode_for, evaluation_batches
from compress.task.labels import connect, relabel
from compress.task.load import Examples

BATCH = 32
MAX_TOKENS = 25_000  # of calibration data: sixteen to each input of a MiniLM's FFN output
TIMED_LENGTH = 32
NEAR = 0.05  # a measured speedup this near to its target is good enough
ATTEMPTS = 6


def run(inputs: Inputs, settings: PruneSettings, output: Path) -> dict[str, Any]:
    """Score, choose, cut, refit, and write the small checkpoint."""
    pruner = Pruner(inputs, settings)
    model = pruner.reach_speedup(settings.target_speedup) if settings.target_speedup else pruner.prune(pruner.share)
    before, after = pruner.before, model_shape(model)
    speedup, interval = pruner.speedup(model)
    metrics = pruner.validate(model)
    save_model(model, output, inputs.source)
    reached = after.flops(pruner.seq_len) / before.flops(pruner.seq_len)
    console.info(f"  kept {100 * reached:.1f} % of the encoder's FLOPs, {100 * after.params() / before.params():.1f} % of its parameters")
    cell = f"fp32, batch 1, length {pruner.timed_length}, one thread"
    console.info(f"  {speedup:.2f}x as fast in ONNX Runtime ({cell}), {1 / reached:.2f}x fewer FLOPs")
    console.info(shapes.sketch(after.as_json()))
    return {
        "target": {pruner.kind: settings.target_speedup or pruner.share, "seq_len": pruner.seq_len},
        "method": settings.method,
        "predicted_speedup": round(pruner.predicted(after), 3),
        "measured_speedup": round(speedup, 3),
        "measured": {
            "runtime": "onnxruntime",
            "precision": "fp32",
            "threads": 1,
            "batch_size": 1,
            "seq_len": pruner.timed_length,
            "ci95": interval,
        },
        "params": count_params(model),
        "flops": after.flops(pruner.seq_len),
        "flops_before": before.flops(pruner.seq_len),
        "layers": after.as_json(),
        "layers_before": before.as_json(),
        "refits": pruner.refits,
        "metrics": {"validation": metrics},
    }


class Pruner:
    """A dense model, its calibration data and costs: what every attempt at a target starts from."""

    def __init__(self, inputs: Inputs, settings: PruneSettings) -> None:
        self.task, self.source, self.settings, self.seed = inputs.task, inputs.source, settings, inputs.seed
        self.device = pick_device(settings.device)
        self.dense = load_model(self.source, target=self.task.spec.target)
        self.before = model_shape(self.dense)
        self.classes = connect(read_config(self.source), self.task, str(self.source.name))
        self.data = self._calibration(settings.calib_samples)
        self.seq_len = settings.seq_len or round(float(self.data.lengths.mean()))
        self.timed_length = settings.seq_len or TIMED_LENGTH
        self.refits: list[dict[str, float]] = []
        self._timed = random_batch(np.random.default_rng(inputs.seed), self.dense.config.vocab_size, 1, self.timed_length)
        self._dense_forward = onnx_forward(self.dense)
        self.kind = "speedup" if settings.target_speedup else "flops" if settings.target_flops else "params"
        self.share = settings.target_flops or settings.target_params or 1.0
        self.costs = self._costs()

    def _calibration(self, count: int) -> Encoded:
        """Encode `count` training examples, fewer where they are so long that time would go into more of the same."""
        train, reading = self.task.split("train"), self.task.spec.reading
        data = encode_for(self.source, calibration_examples(train, count, self.seed), reading)
        tokens = int(data.lengths.sum())
        if tokens <= MAX_TOKENS:
            return data
        fewer = max(2, round(min(count, len(train)) * MAX_TOKENS / tokens))
        return encode_for(self.source, calibration_examples(train, fewer, self.seed), reading)

    def _costs(self) -> Costs:
        if self.kind == "speedup":
            return measured_costs(self.dense, self._seconds)
        return unit_costs(self.before, "params" if self.kind == "params" else "flops", self.seq_len)

    def _seconds(self, model: Any) -> float:
        """Return the time of a model as a share of the dense one's, measured in turns."""
        return 1 / quick_speedup(self._dense_forward, onnx_forward(model), self._timed)[0]

    def speedup(self, model: Any) -> tuple[float, list[float]]:
        """Return the measured speedup of a pruned model over the dense one, with its 95 % interval."""
        return quick_speedup(self._dense_forward, onnx_forward(model), self._timed)

    def predicted(self, shape: shapes.Shape) -> float:
        """Return the speedup that the costs expect of a shape."""
        return self.costs.total(self.before) / self.costs.total(shape)

    def reach_speedup(self, target: float) -> Any:
        """Prune to a measured speedup: solve on measured costs, time the sliced model, and solve again where it is off.

        Raises:
            UsageError: even a model without heads and neurons is not that fast.
        """
        limit = 1 / self.costs.fixed
        if target >= limit:
            raise UsageError(
                f"a speedup of {target:g} is out of reach: without any head and neuron this model would be {limit:.1f}x as fast",
                "choose a smaller target, or quantize as well",
            )
        aim, found = target, 0.0
        for _ in range(ATTEMPTS):  # shapes alone, which are cheap: what aim leads to the target?
            found = self.speedup(self.prune(self._share_of(aim), refit=False))[0]
            if abs(found / target - 1) <= NEAR / 2:
                break
            aim = min(aim * target / found, 0.99 * limit)
        model = self.dense
        for _ in range(2):  # steps and refits choose somewhat other units
            model = self.prune(self._share_of(aim))
            found = self.speedup(model)[0]
            console.info(f"  measured {found:.2f}x, target {target:g}x")
            if abs(found / target - 1) <= NEAR:
                break
            aim = min(aim * target / found, 0.99 * limit)
        return model

    def _share_of(self, speedup: float) -> float:
        """Return the share of the prunable cost that a speedup leaves."""
        return (1 / speedup - self.costs.fixed) / (1 - self.costs.fixed)

    def prune(self, share: float, refit: bool = True) -> Any:
        """Return a copy of the dense model cut to a share of its prunable cost, in steps where the method takes them."""
        model = copy.deepcopy(self.dense)
        fisher = self.settings.method == "fisher"
        whole = self.costs.prunable(self.before)
        for step in fitting_shares(share, self.settings.steps) if fisher and refit else [share]:
            kept = select(self.score(model) if refit else self._dense_scores, self.costs, budget=step * whole)
            model.to("cpu")
            slice_model(model, kept)
            if fisher and refit:
                self.refits = self.refit(model)
        return model

    @cached_property
    def _dense_scores(self) -> list[scoring.LayerScores]:
        return self.score(copy.deepcopy(self.dense))

    def score(self, model: Any) -> list[scoring.LayerScores]:
        """Score the units of a model as it stands."""
        if self.settings.method == "magnitude":
            return scoring.magnitude(model)
        model.to(self.device)
        asked = replace(self.data, labels=relabel(self.data.labels, self.task.spec.target, self.classes))
        batches = evaluation_batches(self.data.lengths, BATCH)
        target = self.task.spec.target
        draw = torch.Generator().manual_seed(self.seed)

        def loss_of(positions: np.ndarray) -> torch.Tensor:
            batch = to_tensors(self.data.batch(positions), model, self.device)
            logits = logits_of(model(**batch))
            labels = torch.from_numpy(asked.targets(positions)).to(self.device)
            if self.settings.method == "fisher":
                labels = sampled_labels(logits.detach(), labels, batch["attention_mask"], target, draw)
            return task_loss(logits, labels, batch["attention_mask"], target, summed=True)

        with console.progress("scoring units", len(batches)) as advance:

            def counted() -> Iterator[Any]:
                for positions in batches:
                    yield positions
                    advance()

            return scoring.taylor(model, counted(), loss_of)

    def refit(self, model: Any) -> list[dict[str, float]]:
        """Refit a pruned model against the dense one, on the calibration data."""
        batches = list(calibration_batches(self.data, self.dense, self.device, self.seed))
        model.to(self.device)
        self.dense.to(self.device)
        with console.progress("refitting layers", len(self.before.layers)) as advance:
            found = reconstruct(model, self.dense, batches, advance)
        self.dense.to("cpu")
        model.to("cpu")
        return found

    def validate(self, model: Any) -> dict[str, Any]:
        """Measure a pruned model on validation."""
        task, validation = self.task, self.task.split("validation")
        data = encode_for(self.source, validation, task.spec.reading)
        metrics = measure(torch_forward(model), data, validation, task, self.classes, "validating")
        console.info(f"  validation {100 * metrics[task.spec.main_metric]:.2f} (before any recovery)")
        return {"n": len(validation), **metrics}


def onnx_forward(model: Any) -> Forward:
    """Open a model in ONNX Runtime, in memory, on one thread."""
    return session_forward(open_session(build_graph(model).SerializeToString(), 1, "cpu", RUNTIME_HINTS))


def calibration_examples(examples: Examples, count: int, seed: int) -> Examples:
    """Draw `count` training examples (all, where there are fewer)."""
    if len(examples) <= count:
        return examples
    return examples.take(np.sort(np.random.default_rng(seed).choice(len(examples), count, replace=False)))


def calibration_batches(data: Encoded, model: Any, device: torch.device, seed: int) -> Iterator[Batch]:
    """Yield batches of similar lengths in random order, so that every fifth one is a fair sample; two at least."""
    batches = evaluation_batches(data.lengths, min(BATCH, max(1, len(data) // 2)))
    for number in np.random.default_rng(seed).permutation(len(batches)):
        yield to_tensors(data.batch(batches[number]), model, device)
