"""A run's report: the summary that the CLI prints, and one offline HTML page. Nothing heavy at import time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, TypeGuard

from compress.core import artifacts, files
from compress.core.errors import UsageError

Document = dict[str, Any]
CELL = ("threads", "batch_size", "seq_len")
_WEIGHTS = {".safetensors", ".onnx", ".data"}  # what `bench` counts as a model's size


@dataclass(frozen=True)
class Run:
    """A finished run as its documents tell it. `stages` maps names to manifests, in the recipe's order."""

    manifest: Document
    stages: dict[str, Document]
    sizes_mb: dict[str, float]  # weights on disk of every model that a stage made
    recipe: str  # the resolved recipe's text
    disagreements: list[Document] = field(default_factory=list)  # examples on which the models of the last evaluation differ
    delivered: str | None = None  # the model that lies in `model/`: a stage, or one of a stage's models, `slim/2x`

    def made_by(self, verb: str) -> dict[str, Document]:
        """Return the manifests of the stages that did `verb`."""
        return {name: stage for name, stage in self.stages.items() if stage.get("verb") == verb}

    def measured(self, verb: str) -> list[Document]:
        """Return the manifests of the stages that did `verb` and have results; the last one is what counts."""
        return [stage for stage in self.made_by(verb).values() if stage.get("results")]


def write(run_folder: Path) -> Path:
    """Write `report.html` into a finished run folder, atomically; returns its path.

    Raises:
        UsageError: the folder is not that of a finished run.
    """
    from compress.report.html import page

    text = page(read_run(run_folder))
    path = run_folder / "report.html"
    files.write_text(path, text)
    return path


def summary(run_folder: Path) -> list[Document]:
    """Return one row a model that was evaluated or benchmarked, in the order of `bench` and `eval`; see `summarize`.

    Raises:
        UsageError: the folder is not that of a finished run.
    """
    return summarize(read_run(run_folder))


def read_run(run_folder: Path) -> Run:
    """Read every document of a run folder.

    Raises:
        UsageError: the folder is not that of a finished run, or its manifest is damaged.
    """
    path = run_folder / "manifest.json"
    if not path.is_file():
        started = (run_folder / "recipe.resolved.yaml").is_file()
        hint = "its run has not finished: start the same `compress run` again" if started else "give the folder that `compress run` wrote"
        raise UsageError(f"{run_folder} is not a finished run folder: it has no manifest.json", hint)
    try:
        manifest = files.read_json(path)
        entries = dict(manifest["stages"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read as a run's manifest: {error}", "start the same `compress run` again") from error
    folders = {name: run_folder / entry["folder"] for name, entry in entries.items()}
    stages = {name: {**entries[name], **(artifacts.read_manifest(folder) or {})} for name, folder in folders.items()}
    recipe = run_folder / "recipe.resolved.yaml"
    evaluated = [name for name, stage in stages.items() if stage.get("verb") == "eval" and stage.get("results")]
    return Run(
        manifest=manifest,
        stages=stages,
        sizes_mb={name: size for name, folder in folders.items() if (size := _weights_mb(folder))},
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
        disagreements=_disagreements(folders[evaluated[-1]]) if evaluated else [],
        delivered=manifest.get("delivered") or (artifacts.read_manifest(run_folder / "model") or {}).get("stage"),
    )


def _disagreements(folder: Path) -> list[Document]:
    """Return the examples on which two models of an evaluation differ: the first lines of its file of errors."""
    from compress.stage import ERRORS_FILE

    found: list[Document] = []
    try:
        with (folder / ERRORS_FILE).open(encoding="utf-8") as stream:
            for line in stream:
                entry = json.loads(line)
                if not entry["disagree"]:
                    break
                found.append(entry)
    except (OSError, ValueError, KeyError, TypeError):
        pass  # an older run has no such file, and a page without these examples is better than none
    return found


def _weights_mb(folder: Path) -> float:
    paths = folder.iterdir() if folder.is_dir() else ()
    return sum(path.stat().st_size for path in paths if path.suffix in _WEIGHTS) / 1e6


def summarize(run: Run) -> list[Document]:
    """Return one row a model, missing values None.

    Keys: `model`, `verb`, `runtime`, `precision`; `accuracy`, its `ci95`, `delta_points`, `delta_ci95` (points) and
    `p_value`, of the main metric in the last evaluation; `p50_ms`, `speedup` and `speedup_vs_onnx` in the first cell
    of the last benchmark; `size_mb` (weights on disk) and `params`.
    """
    evaluated, benched = evaluation(run), first_cell(run)
    measured = [[entry["model"] for entry in stage["results"]] for verb in ("bench", "eval") for stage in run.measured(verb)]
    names = reduce(_merged, measured, _merged(benched, list(evaluated)))
    return [_row(run, name, evaluated.get(name), benched.get(name)) for name in names]


def _merged(order: Iterable[str], other: Sequence[str]) -> list[str]:
    """Insert what only `other` names into `order`, each after its predecessor; strangers come last."""
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


def is_interval(value: Any) -> TypeGuard[list[float]]:
    """Tell whether `value` is a pair of numbers: an interval that could not be computed has None in it."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(bound, int | float) for bound in value)


def _params(run: Run, name: str) -> int | None:
    """Return a model's parameters; an export or a quantized graph has those of its source."""
    for _ in run.stages:  # bounded, whatever the documents say
        stage = run.stages.get(name, {})
        if stage.get("params") is not None:
            return stage["params"]
        name = next(iter(stage.get("inputs") or {}), "")
    return None


def evaluation(run: Run) -> dict[str, Document]:
    """Return each model's entry of the last evaluation, `main_metric` added.

    Earlier evaluations on the very same examples fill in the models that the last one lacks; their paired comparison
    is kept where it is with the same first model.
    """
    stages = run.measured("eval")
    found: dict[str, Document] = {}
    for stage in reversed(stages):
        if any(stage.get(key) != stages[-1].get(key) for key in ("task", "split", "n", "main_metric")):
            continue
        same_first = stage["results"][0]["model"] == stages[-1]["results"][0]["model"]
        added = {
            entry["model"]: entry if same_first else {key: value for key, value in entry.items() if key != "vs_first"}
            for entry in stage["results"]
            if entry["model"] not in found
        }
        found = {name: (found | added)[name] for name in _merged(found, [entry["model"] for entry in stage["results"]])}
    return {name: {**entry, "main_metric": stages[-1].get("main_metric", "")} for name, entry in found.items()}


def first_cell(run: Run) -> dict[str, Document]:
    """Return each model's entry of the first cell of the last benchmark."""
    stages = run.measured("bench")
    results = stages[-1]["results"] if stages else []
    return {entry["model"]: entry for entry in results if cell_of(entry) == cell_of(results[0])}


def cell_of(entry: Document) -> tuple[Any, ...]:
    """Return the threads, batch size and length of a benchmark's entry, and whether the length is the texts' own."""
    return (*(entry.get(key) for key in CELL), has_own_lengths(entry))


def has_own_lengths(entry: Document) -> bool:
    """Tell whether a benchmark's entry was timed on the task's texts; its `seq_len` is then their mean length."""
    return entry.get("lengths") == "task"
