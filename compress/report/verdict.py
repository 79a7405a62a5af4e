"""The sentences at the top of the page and of the model card: what was gained and lost, and where it was measured."""

from __future__ import annotations

from collections.abc import Sequence

from compress.report.entries import is_interval
from compress.report.formatting import cell_text, interval_text, number, p_value, points_name, runtime_text
from compress.report.run_folder import Document, Run
from compress.report.summary import first_cell, metric_of


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
        return f"is {speedup_text(speedup, rows)}"
    return f"takes {number(row['p50_ms'])} ms (p50)" if row["p50_ms"] else ""


def speedup_text(speedup: Document, rows: Sequence[Document]) -> str:
    """Write a speedup: faster, slower, or not to be told apart from the model that it is compared with."""
    ratio, bounds = speedup["ratio"], speedup.get("ci95")
    other = next((row for row in rows if row["model"] == speedup["vs"]), {})
    against = f"{speedup['vs']} in {runtime_text(other)}" if other.get("runtime") else str(speedup["vs"])
    if is_interval(bounds) and bounds[0] <= 1 <= bounds[1]:
        return f"as fast as {against} within the noise (ratio {number(ratio)}, 95 % interval {interval_text(bounds)})"
    word = "faster"
    if ratio < 1:
        ratio, word = 1 / ratio, "slower"
        bounds = [1 / bound for bound in reversed(bounds)] if is_interval(bounds) and min(bounds) > 0 else None
    digits = 1 if ratio >= 2 else 2
    told = f" (95 % interval {interval_text(bounds, digits)})" if is_interval(bounds) else ""
    return f"{number(ratio, digits)}× {word} than {against}{told}"


def _accuracy(row: Document, run: Run) -> str:
    if row["accuracy"] is None:
        return ""
    points, stage = points_name(metric_of(run)), run.measured("eval")[-1]
    on = f"on {stage.get('task')}, {stage.get('split')}, n = {stage.get('n')}"
    delta, bounds = row["delta_points"], row["delta_ci95"]
    if delta is None:
        told = f" (95 % interval {interval_text(row['ci95'], 1, 100)})" if is_interval(row["ci95"]) else ""
        return f"reaches {number(100 * row['accuracy'], 1)} {points}{told} {on}"
    verb, first = "gains" if delta > 0 else "loses", stage["results"][0]["model"]
    evidence = [f"95 % interval of the change {interval_text(bounds, 1, signed=True)}"] if bounds else []
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
    return f"{row['model']} is {speedup_text(speedup, rows)}{meant}."


def _where(row: Document, rows: Sequence[Document], run: Run) -> str:
    entry = first_cell(run).get(row["model"])
    told = [f"Timed on {str(entry.get('device', 'cpu')).upper()}, {cell_text(entry)}."] if entry else []
    if row["size_mb"] and rows[0]["size_mb"] and row is not rows[0]:
        ours, first = number(row["size_mb"], 1), number(rows[0]["size_mb"], 1)
        told.append(f"The weights take {ours} MB on disk; those of {rows[0]['model']} take {first} MB.")
    return " ".join(told)
