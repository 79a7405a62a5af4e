"""A run's report: the summary that the CLI prints, and one offline HTML page. Nothing heavy at import time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, TypeGuard

from compress import fs
from compress.errors import UsageError

Document = dict[str, Any]
RUNTIMES = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime"}
CELL = ("threads", "batch_size", "seq_len")
_WEIGHTS = {".safetensors", ".onnx", ".data"}  # what `bench` counts as a model's size


@dataclass(frozen=True)
class Run:
    """A finished run as its documents tell it. `stages` maps names to manifests, in the recipe's order."""

    manifest: Document
    stages: dict[str, Document]
    sizes_mb: dict[str, float]  # weights on disk of every model that a stage made
    recipe: str  # the resolved recipe's text

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
    fs.write_text(path, text)
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
        manifest = fs.read_json(path)
        entries = dict(manifest["stages"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} cannot be read as a run's manifest: {error}", "start the same `compress run` again") from error
    folders = {name: run_folder / entry["folder"] for name, entry in entries.items()}
    stages = {name: {**entries[name], **(fs.read_manifest(folder) or {})} for name, folder in folders.items()}
    recipe = run_folder / "recipe.resolved.yaml"
    return Run(
        manifest=manifest,
        stages=stages,
        sizes_mb={name: size for name, folder in folders.items() if (size := _weights_mb(folder))},
        recipe=recipe.read_text(encoding="utf-8") if recipe.is_file() else "",
    )


def _weights_mb(folder: Path) -> float:
    files = folder.iterdir() if folder.is_dir() else ()
    return sum(path.stat().st_size for path in files if path.suffix in _WEIGHTS) / 1e6


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
    """Return the name of the main metric, in words."""
    return next((entry["main_metric"] for entry in evaluation(run).values()), "accuracy").replace("_", " ")


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
    """Return the threads, batch size and length of a benchmark's entry."""
    return tuple(entry.get(key) for key in CELL)


# The same in words


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """Write a number, with a real minus sign; a dash where there is none."""
    if value is None or value != value:
        return "–"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def interval(bounds: Any, digits: int = 2, scale: float = 1, signed: bool = False) -> str:
    """Write an interval as `a to b`, or an empty text where there is none."""
    if not is_interval(bounds):
        return ""
    return " to ".join(number(scale * bound, digits, signed) for bound in bounds)


def p_value(value: float | None) -> str:
    """Write a p value: `0.60`, `0.032`, `< 0.001`."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"


def verdict(run: Run, rows: Sequence[Document]) -> list[str]:
    """Return one to three sentences: what was gained and lost, against what, and where it was measured."""
    if not rows:
        made = ", ".join(name for name, stage in run.stages.items() if stage.get("verb") not in {"eval", "bench"}) or "nothing"
        return [f"This run made {made} and measured neither accuracy nor latency: stages that do eval and bench would tell."]
    both = [row for row in rows if row["accuracy"] is not None and row["p50_ms"]]
    row = (both or [row for row in rows if row["p50_ms"]] or rows)[-1]
    parts = [part for part in (_speed(row, rows), _accuracy(row, run)) if part]
    first = f"{row['model']} {' and '.join(parts)}." if parts else f"{row['model']} was measured, without a result."
    return [sentence for sentence in (first, _onnx(row, rows), _where(row, rows, run)) if sentence]


def _speed(row: Document, rows: Sequence[Document]) -> str:
    speedup = row["speedup"] or {}
    if speedup.get("ratio") and speedup.get("vs") != row["model"]:
        return f"is {ratio_in_words(speedup, rows)}"
    return f"takes {number(row['p50_ms'])} ms (p50)" if row["p50_ms"] else ""


def ratio_in_words(speedup: Document, rows: Sequence[Document]) -> str:
    """Write a speedup: faster, slower, or not to be told apart from the model that it is compared with."""
    ratio, bounds = speedup["ratio"], speedup.get("ci95")
    other = next((row for row in rows if row["model"] == speedup["vs"]), {})
    against = f"{speedup['vs']} in {runtime_of(other)}" if other.get("runtime") else str(speedup["vs"])
    if is_interval(bounds) and bounds[0] <= 1 <= bounds[1]:
        return f"as fast as {against} within the noise (ratio {number(ratio)}, 95 % interval {interval(bounds)})"
    word = "faster"
    if ratio < 1:
        ratio, word = 1 / ratio, "slower"
        bounds = [1 / bound for bound in reversed(bounds)] if is_interval(bounds) and min(bounds) > 0 else None
    digits = 1 if ratio >= 2 else 2
    told = f" (95 % interval {interval(bounds, digits)})" if is_interval(bounds) else ""
    return f"{number(ratio, digits)}× {word} than {against}{told}"


def _accuracy(row: Document, run: Run) -> str:
    if row["accuracy"] is None:
        return ""
    metric, stage = metric_of(run), run.measured("eval")[-1]
    on = f"on {stage.get('task')}, {stage.get('split')}, n = {stage.get('n')}"
    delta, bounds = row["delta_points"], row["delta_ci95"]
    if delta is None:
        told = f" (95 % interval {interval(row['ci95'], 1, 100)})" if is_interval(row["ci95"]) else ""
        return f"reaches {number(100 * row['accuracy'], 1)} points of {metric}{told} {on}"
    verb, first = "gains" if delta > 0 else "loses", stage["results"][0]["model"]
    evidence = [f"95 % interval of the change {interval(bounds, 1, signed=True)}"] if bounds else []
    if row["p_value"] is not None:
        evidence.append(f"p {p_value(row['p_value'])}" if row["p_value"] < 0.001 else f"p = {p_value(row['p_value'])}")
    doubt = "; not distinguishable from zero" if bounds and bounds[0] <= 0 <= bounds[1] else ""
    return f"{verb} {number(abs(delta), 1)} points of {metric} against {first} ({', '.join(evidence) or 'no interval'}{doubt}) {on}"


def _onnx(row: Document, rows: Sequence[Document]) -> str:
    speedup = row["speedup_vs_onnx"] or {}
    if not speedup.get("ratio") or speedup["vs"] in {row["model"], (row["speedup"] or {}).get("vs")}:
        return ""
    meant = ", the baseline in the same runtime" if row["runtime"] == "onnxruntime" else ""
    return f"{row['model']} is {ratio_in_words(speedup, rows)}{meant}."


def _where(row: Document, rows: Sequence[Document], run: Run) -> str:
    entry = first_cell(run).get(row["model"])
    told = []
    if entry:
        threads = f"{entry.get('threads')} thread{'' if entry.get('threads') == 1 else 's'}"
        device = str(entry.get("device", "cpu")).upper()
        told.append(f"Timed on {device}, {threads}, batch {entry.get('batch_size')}, {entry.get('seq_len')} tokens.")
    if row["size_mb"] and rows[0]["size_mb"] and row is not rows[0]:
        ours, first = number(row["size_mb"], 1), number(rows[0]["size_mb"], 1)
        told.append(f"The weights take {ours} MB on disk; those of {rows[0]['model']} take {first} MB.")
    return " ".join(told)


def runtime_of(row: Document) -> str:
    """Write where a model runs: `PyTorch fp32`."""
    runtime = row.get("runtime")
    return " ".join(str(word) for word in (RUNTIMES.get(runtime or "", runtime), row.get("precision")) if word)
