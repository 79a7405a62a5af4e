"""The results of a cell: percentiles, speedups, the A/A control, and the factors of the last model's speedup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from compress.benchmark.grid import Candidate
from compress.benchmark.interleaving import Times
from compress.benchmark.static_facts import StaticFacts
from compress.benchmark.statistics import median_ratio
from compress.benchmark.workload import CONTROL, PADDED
from compress.core import artifacts
from compress.inference.routes import ONNXRUNTIME
from compress.results.measurements import BenchEntry, CellDocument, Control, Latency, Waterfall, WaterfallStep
from compress.results.values import Ratio
from compress.settings import BenchSettings

MIN_TAIL = 100  # samples below which a 99th percentile means nothing


def cell_results(
    candidates: Sequence[Candidate], times: Times, cell: CellDocument, facts: Mapping[str, StaticFacts], settings: BenchSettings
) -> list[BenchEntry]:
    """Return one result per candidate, with its speedup over the first one and over the first fp32 ONNX model."""
    first = candidates[0]
    onnx = next((c for c in candidates if c.runtime == ONNXRUNTIME and c.precision == "fp32"), None)
    results: list[BenchEntry] = []
    for candidate in candidates:
        seconds = times[candidate.name]
        results.append(
            {
                "model": candidate.name,
                "runtime": candidate.runtime,
                "device": settings.device,
                "precision": candidate.precision,
                **cell,
                "tokenized": settings.tokenize and cell["lengths"] == "task",
                "rounds": len(seconds),
                "latency_ms": latency_percentiles(seconds),
                "throughput_per_s": cell["batch_size"] / float(np.median(seconds)),
                **facts[candidate.name],
                "speedup": {"vs": first.name, **ratio_document(times[first.name], seconds)},
                "speedup_vs_onnx": {"vs": onnx.name, **ratio_document(times[onnx.name], seconds)} if onnx else None,
            }
        )
    return results


def control(candidates: Sequence[Candidate], times: Times, cell: CellDocument) -> Control:
    """Return the first model's time against itself, the noise floor, and on the task's texts what padding costs."""
    document: Control = {**cell, **ratio_document(times[candidates[0].name], times[CONTROL])}
    if PADDED in times:
        document["padding"] = ratio_document(times[PADDED], times[candidates[-1].name])
    return document


def speedup_waterfall(candidates: Sequence[Candidate], times: Times, cell: CellDocument) -> Waterfall | None:
    """Split the last model's speedup over the first into the factors of the models in between; None for a single model.

    A step leads to the next model that is faster than the step before and slower than the last; what changed (runtime,
    shape, precision) is read from the models. The product of the factors is the total, up to rounding of medians.
    """
    if len(candidates) < 2:
        return None
    medians = {candidate.name: float(np.median(times[candidate.name])) for candidate in candidates}
    first, last = candidates[0], candidates[-1]
    rungs = [first]
    for candidate in candidates[1:-1]:
        if medians[rungs[-1].name] > medians[candidate.name] > medians[last.name]:
            rungs.append(candidate)
    steps: list[WaterfallStep] = [
        {"from": a.name, "to": b.name, "what": changes(a, b), **ratio_document(times[a.name], times[b.name])}
        for a, b in pairwise([*rungs, last])
    ]
    return {**cell, "steps": steps, "total": ratio_document(times[first.name], times[last.name])}


def changes(before: Candidate, after: Candidate) -> str:
    """Return what differs between two models: runtime, size, precision; else the weights."""
    parts = []
    if before.runtime != after.runtime:
        parts.append("runtime")
    old, new = ((artifacts.read_manifest(candidate.folder) or {}).get("params") for candidate in (before, after))
    if old and new and old != new:
        parts.append("smaller model" if new < old else "larger model")
    if before.precision != after.precision:
        parts.append(after.precision)
    return " + ".join(parts) or "weights"


def ratio_document(baseline: np.ndarray, candidate: np.ndarray) -> Ratio:
    """Return the median ratio of the rounds, with its 95 % interval."""
    ratio, interval = median_ratio(baseline, candidate)
    return {"ratio": ratio, "ci95": list(interval)}


def latency_percentiles(seconds: np.ndarray) -> Latency:
    """Return p50, p90, p99 and mean in milliseconds; no p99 below `MIN_TAIL` samples."""
    milliseconds = 1e3 * seconds
    return {
        "p50": float(np.percentile(milliseconds, 50)),
        "p90": float(np.percentile(milliseconds, 90)),
        "p99": float(np.percentile(milliseconds, 99)) if len(milliseconds) >= MIN_TAIL else None,
        "mean": float(milliseconds.mean()),
    }
