"""A run's results in words: numbers, intervals, and the sentences at the top of the page and of the model card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from compress.report import Document, Run, first_cell, has_own_lengths, is_interval, metric_of

RUNTIMES = {"pytorch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "onnxruntime+openvino": "ONNX Runtime + OpenVINO"}
METRICS = {
    "f1": "F1",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "matthews": "Matthews correlation",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "entity_f1": "entity F1",
    "word_f1": "word F1",
    "exact_match": "exact match",
    "squad_f1": "SQuAD F1",
}
CORRELATIONS = {"matthews", "pearson", "spearman"}


def metric_in_words(name: str) -> str:
    """Write a metric's name."""
    return METRICS.get(name, name.replace("_", " "))


def scaled(name: str) -> str:
    """Write a metric's name with the scale that the page uses: points from 0 to 100, or a correlation times 100."""
    return f"{metric_in_words(name)} × 100" if name in CORRELATIONS else f"{metric_in_words(name)}, 0 to 100 points"


def points_of(name: str) -> str:
    """Write in what a change of a metric is counted."""
    return f"points of {metric_in_words(name)}{' (× 100)' if name in CORRELATIONS else ''}"


def heading(text: str) -> str:
    """Begin with a capital; what follows stays: `macro F1`, `int8`."""
    return text[:1].upper() + text[1:]


def number(value: float | None, digits: int = 2, signed: bool = False) -> str:
    """Write a number, with a real minus sign; a dash where there is none."""
    if value is None or value != value:
        return "–"
    return f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def times_100(value: float | None) -> float | None:
    """Return a share in points."""
    return None if value is None else 100 * value


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


def length_of(entry: Document) -> str:
    """Write the length of a benchmark's entry: `32`, or `task's own (mean 41)`."""
    return f"task's own (mean {entry.get('seq_len', '–')})" if has_own_lengths(entry) else str(entry.get("seq_len", "–"))


def runtime_of(row: Document) -> str:
    """Write where a model runs: `PyTorch fp32`."""
    runtime = row.get("runtime")
    return " ".join(str(word) for word in (RUNTIMES.get(runtime or "", runtime), row.get("precision")) if word)


def cell_in_words(entry: Document) -> str:
    """Write what was timed: `1 thread, batch 1, 32 tokens`."""
    threads = f"{entry.get('threads')} thread{'' if entry.get('threads') == 1 else 's'}"
    length = f"the task's own texts (mean {entry.get('seq_len')} tokens)" if has_own_lengths(entry) else f"{entry.get('seq_len')} tokens"
    return f"{threads}, batch {entry.get('batch_size')}, {length}"


def verdict(run: Run, rows: Sequence[Document]) -> list[str]:
    """Return one to three sentences: what was gained and lost, against what, and where it was measured.

    They are about the delivered model where it was measured, else about the last one that was.
    """
    if not rows:
        made = ", ".join(name for name, stage in run.stages.items() if stage.get("verb") not in {"eval", "bench"}) or "nothing"
        return [f"This run made {made} and measured neither accuracy nor latency: stages that do eval and bench would tell."]
    delivered = [row for row in rows if row["model"] == run.delivered]
    both = [row for row in rows if row["accuracy"] is not None and row["p50_ms"]]
    row = (delivered or both or [row for row in rows if row["p50_ms"]] or rows)[-1]
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
    points, stage = points_of(metric_of(run)), run.measured("eval")[-1]
    on = f"on {stage.get('task')}, {stage.get('split')}, n = {stage.get('n')}"
    delta, bounds = row["delta_points"], row["delta_ci95"]
    if delta is None:
        told = f" (95 % interval {interval(row['ci95'], 1, 100)})" if is_interval(row["ci95"]) else ""
        return f"reaches {number(100 * row['accuracy'], 1)} {points}{told} {on}"
    verb, first = "gains" if delta > 0 else "loses", stage["results"][0]["model"]
    evidence = [f"95 % interval of the change {interval(bounds, 1, signed=True)}"] if bounds else []
    if row["p_value"] is not None:
        evidence.append(f"p {p_value(row['p_value'])}" if row["p_value"] < 0.001 else f"p = {p_value(row['p_value'])}")
    doubt = "; not distinguishable from zero" if bounds and bounds[0] <= 0 <= bounds[1] else ""
    told = f"{verb} {number(abs(delta), 1)} {points} against" if delta else f"has as many {points} as"
    return f"{told} {first} ({', '.join(evidence) or 'no interval'}{doubt}) {on}"


def _onnx(row: Document, rows: Sequence[Document]) -> str:
    speedup = row["speedup_vs_onnx"] or {}
    if not speedup.get("ratio") or speedup["vs"] in {row["model"], (row["speedup"] or {}).get("vs")}:
        return ""
    meant = ", the baseline in the same runtime" if row["runtime"] == "onnxruntime" else ""
    return f"{row['model']} is {ratio_in_words(speedup, rows)}{meant}."


def _where(row: Document, rows: Sequence[Document], run: Run) -> str:
    entry = first_cell(run).get(row["model"])
    told = [f"Timed on {str(entry.get('device', 'cpu')).upper()}, {cell_in_words(entry)}."] if entry else []
    if row["size_mb"] and rows[0]["size_mb"] and row is not rows[0]:
        ours, first = number(row["size_mb"], 1), number(rows[0]["size_mb"], 1)
        told.append(f"The weights take {ours} MB on disk; those of {rows[0]['model']} take {first} MB.")
    return " ".join(told)
