"""One row per model: accuracy, latency, speedup and size, from the last evaluation and the last benchmark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

from compress.report.entries import cell_of, is_interval
from compress.report.run_folder import Document, Run


def summarize(run: Run) -> list[Document]:
    """Return one row per model; missing values are None.

    Keys: `model`, `verb`, `runtime`, `precision`; `accuracy`, its `ci95`, `delta_points`, `delta_ci95` (points) and
    `p_value`, of the main metric in the last evaluation; `p50_ms`, `speedup` and `speedup_vs_onnx` in the first cell
    of the last benchmark; `size_mb` (weights on disk) and `params`.
    """
    evaluated, benched = evaluation(run), first_cell(run)
    measured = [[entry["model"] for entry in stage["results"]] for verb in ("bench", "eval") for stage in run.measured(verb)]
    names = reduce(_merged, measured, _merged(benched, list(evaluated)))
    return [_row(run, name, evaluated.get(name), benched.get(name)) for name in names]


def _merged(order: Iterable[str], other: Sequence[str]) -> list[str]:
    """Insert the names that only `other` has into `order`, each after its predecessor; last if the two share no name."""
    names = list(order)
    position = 0 if set(names) & set(other) else len(names)
    for name in other:
        if name not in names:
            names.insert(position, name)
        position = names.index(name) + 1
    return names


def metric_of(run: Run) -> str:
    """Return the name of the main metric of the last evaluation."""
    return next((entry["main_metric"] for entry in evaluation(run).values()), "accuracy")


def _row(run: Run, name: str, evaluated: Document | None, benched: Document | None) -> Document:
    evaluated, benched, stage = evaluated or {}, benched or {}, run.stages.get(name, {})
    metric = evaluated.get("main_metric", "")
    against = evaluated.get("vs_first") or {}
    delta, change = against.get("delta"), against.get("ci95")
    runtime = {"checkpoint": "pytorch", "onnx": "onnxruntime"}.get(stage.get("kind", ""))
    return {
        "model": name,
        "verb": stage.get("verb"),
        "runtime": benched.get("runtime", runtime),
        "precision": benched.get("precision", stage.get("precision", "fp32" if runtime == "pytorch" else None)),
        "accuracy": evaluated.get("metrics", {}).get(metric),
        "ci95": evaluated.get("ci95", {}).get(metric),
        "delta_points": None if delta is None else 100 * delta,
        "delta_ci95": [100 * bound for bound in change] if is_interval(change) else None,
        "p_value": against.get("p_value"),
        "p50_ms": benched.get("latency_ms", {}).get("p50"),
        "size_mb": benched.get("size_mb", run.sizes_mb.get(name)),
        "params": _params(run, name),
        "speedup": benched.get("speedup"),
        "speedup_vs_onnx": benched.get("speedup_vs_onnx"),
    }


def _params(run: Run, name: str) -> int | None:
    """Return a model's number of parameters; exported and quantized graphs have those of their source."""
    for _ in run.stages:  # bounded, even if the documents contain a cycle
        stage = run.stages.get(name, {})
        if stage.get("params") is not None:
            return stage["params"]
        name = next(iter(stage.get("inputs") or {}), "")
    return None


def evaluation(run: Run) -> dict[str, Document]:
    """Return each model's entry of the last evaluation, with `main_metric` added.

    Earlier evaluations on the same examples add the models that the last one lacks; their paired comparison is kept if its
    first model is the same.
    """
    stages = run.measured("eval")
    entries: dict[str, Document] = {}
    for stage in reversed(stages):
        if any(stage.get(key) != stages[-1].get(key) for key in ("task", "split", "n", "main_metric")):
            continue
        same_first = stage["results"][0]["model"] == stages[-1]["results"][0]["model"]
        added = {
            entry["model"]: entry if same_first else {key: value for key, value in entry.items() if key != "vs_first"}
            for entry in stage["results"]
            if entry["model"] not in entries
        }
        entries = {name: (entries | added)[name] for name in _merged(entries, [entry["model"] for entry in stage["results"]])}
    return {name: {**entry, "main_metric": stages[-1].get("main_metric", "")} for name, entry in entries.items()}


def first_cell(run: Run) -> dict[str, Document]:
    """Return each model's entry of the first cell of the last benchmark."""
    stages = run.measured("bench")
    results = stages[-1]["results"] if stages else []
    return {entry["model"]: entry for entry in results if cell_of(entry) == cell_of(results[0])}
