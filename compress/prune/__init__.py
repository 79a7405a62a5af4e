"""Structured pruning: the stage `prune`. Scores, search and surgery are pure functions beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress import console
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.measure.latency import quick_speedup, random_batch
from compress.model import shape as shapes
from compress.model.artifact import open_session, session_forward
from compress.model.checkpoint import count_params, load_model, model_shape, save_model
from compress.model.config import read_config
from compress.model.device import pick_device, to_tensors
from compress.model.objective import logits_of, task_loss
from compress.model.scorer import Forward, measure, torch_forward
from compress.prune import scores as scoring
from compress.prune.search import select, unit_costs
from compress.prune.surgery import slice_model
from compress.settings import PruneSettings
from compress.stage import Inputs
from compress.task.encode import Encoded, encode_for, evaluation_batches
from compress.task.labels import connect, relabel
from compress.task.load import Examples, Task

BATCH = 32
TIMED_LENGTH = 32


def run(inputs: Inputs, settings: PruneSettings, output: Path) -> dict[str, Any]:
    """Score, choose, cut, and write the small checkpoint."""
    task, source = inputs.task, inputs.source
    device = pick_device(settings.device)
    model = load_model(source)
    before = model_shape(model)
    classes = connect(read_config(source), task, str(source.name))
    data = encode_for(source, calibration_examples(task.split("train"), settings.calib_samples, inputs.seed), task.spec.reading)
    seq_len = settings.seq_len or round(float(data.lengths.mean()))
    kind, share = ("flops", settings.target_flops) if settings.target_flops else ("params", settings.target_params)
    total = before.flops(seq_len) if kind == "flops" else before.params() - 2 * before.hidden * len(before.layers)
    assert share is not None  # noqa: S101 (PruneSettings has exactly one target)
    unit_scores = scoring.magnitude(model) if settings.method == "magnitude" else _taylor(model, data, task, classes, device)
    kept = select(unit_scores, *unit_costs(before, kind, seq_len), budget=share * total)
    model.to("cpu")
    dense = _onnx_forward(model)
    slice_model(model, kept)
    speedup, interval = quick_speedup(
        dense, _onnx_forward(model), random_batch(np.random.default_rng(inputs.seed), model.config.vocab_size, 1, TIMED_LENGTH)
    )
    after = model_shape(model)
    metrics = _validate(model, task, source, classes)
    save_model(model, output, source)
    reached = after.flops(seq_len) / before.flops(seq_len)
    console.info(f"  kept {100 * reached:.1f} % of the encoder's FLOPs, {100 * after.params() / before.params():.1f} % of its parameters")
    console.info(
        f"  {speedup:.2f}x as fast in ONNX Runtime (fp32, batch 1, length {TIMED_LENGTH}, one thread), {1 / reached:.2f}x fewer FLOPs"
    )
    console.info(shapes.sketch(after.as_json()))
    return {
        "target": {kind: share, "seq_len": seq_len},
        "method": settings.method,
        "predicted_speedup": round(1 / reached, 3),
        "measured_speedup": round(speedup, 3),
        "measured": {
            "runtime": "onnxruntime",
            "precision": "fp32",
            "threads": 1,
            "batch_size": 1,
            "seq_len": TIMED_LENGTH,
            "ci95": interval,
        },
        "params": count_params(model),
        "flops": after.flops(seq_len),
        "flops_before": before.flops(seq_len),
        "layers": after.as_json(),
        "layers_before": before.as_json(),
        "metrics": {"validation": metrics},
    }


def _onnx_forward(model: Any) -> Forward:
    """Open a model in ONNX Runtime, in memory, on one thread."""
    return session_forward(open_session(build_graph(model).SerializeToString(), 1, "cpu", RUNTIME_HINTS))


def calibration_examples(examples: Examples, count: int, seed: int) -> Examples:
    """Draw `count` training examples (all, where there are fewer)."""
    if len(examples) <= count:
        return examples
    return examples.take(np.sort(np.random.default_rng(seed).choice(len(examples), count, replace=False)))


def _taylor(model: Any, data: Encoded, task: Task, classes: np.ndarray, device: torch.device) -> list[scoring.LayerScores]:
    model.to(device)
    asked = replace(data, labels=relabel(data.labels, task.spec.target, classes))
    batches = evaluation_batches(data.lengths, BATCH)

    def loss_of(positions: np.ndarray) -> torch.Tensor:
        batch = to_tensors(data.batch(positions), model, device)
        labels = torch.from_numpy(asked.targets(positions)).to(device)
        return task_loss(logits_of(model(**batch)), labels, batch["attention_mask"], task.spec.target, summed=True)

    with console.progress("scoring units", len(batches)) as advance:

        def counted() -> Any:
            for positions in batches:
                yield positions
                advance()

        return scoring.taylor(model, counted(), loss_of)


def _validate(model: Any, task: Task, source: Path, classes: np.ndarray) -> dict[str, Any]:
    validation = task.split("validation")
    metrics = measure(torch_forward(model), encode_for(source, validation, task.spec.reading), validation, task, classes, "validating")
    console.info(f"  validation {100 * metrics[task.spec.main_metric]:.2f} (before any recovery)")
    return {"n": len(validation), **metrics}
