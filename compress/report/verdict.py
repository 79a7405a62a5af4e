"""The sentences at the top of the page and of the model card: what was gained and lost, and where it was measured."""

from __future__ import annotations

from collections.abc import Sequence

from compress.report.entries import is_interval, noise_floor
from compress.report.formatting import cell_text, interval_text, number, p_value, points_name, runtime_text
from compress.report.run_folder import Document, Run
from compress.report.summary import first_cell, metric_of

NOISY = 10  # %; a higher noise floor is reported next to the result


def verdict(run: Run, rows: Sequence[Document]) -> list[str]:
    """Return one to four sentences: speedup, change in accuracy, the baseline, and how it was measured.

    They describe the delivered model if it was measured, else the last measured one.
    """
    if not rows:
        written = ", ".join(name for name, stage in run.stages.items() if stage.get("verb") not in {"eval", "bench"}) or "nothing"
        return [f"This run wrote {written} and measured neither accuracy nor latency; add stages with eval and bench."]
    delivered = [row for row in rows if row["model"] == run.delivered]
    both = [row for row in rows if row["accuracy"] is not None and row["p50_ms"]]
    row = (delivered or both or [row for row in rows if row["p50_ms"]] or rows)[-1]
    parts = [part for part in (_speed(row, rows), _accuracy(row, run)) if part]
    first = f"{row['model']} {' and '.join(parts)}." if parts else f"{row['model']} was measured without a result."
    return [sentence for sentence in (first, _onnx(row, rows), _where(row, rows, run)) if sentence]


def _speed(row: Document, rows: Sequence[Document]) -> str:
    speedup = row["speedup"] or {}
    if speedup.get("ratio") and speedup.get("vs") != row["model"]:
        return f"is {speedup_text(speedup, rows)}"
    return f"takes {number(row['p50_ms'])} ms (p50)" if row["p50_ms"] else ""


def speedup_text(speedup: Document, rows: Sequence[Document]) -> str:
    """Return a speedup as text: faster, slower, or as fast within the noise."""
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
    bounds_text = f" (95 % interval {interval_text(bounds, digits)})" if is_interval(bounds) else ""
    return f"{number(ratio, digits)}× {word} than {against}{bounds_text}"


def _accuracy(row: Document, run: Run) -> str:
    if row["accuracy"] is None:
        return ""
    points, stage = points_name(metric_of(run)), run.measured("eval")[-1]
    on = f"on {stage.get('task')}, {stage.get('split')}, n = {stage.get('n')}"
    delta, bounds = row["delta_points"], row["delta_ci95"]
    if delta is None:
        bounds_text = f" (95 % interval {interval_text(row['ci95'], 1, 100)})" if is_interval(row["ci95"]) else ""
        return f"reaches {number(100 * row['accuracy'], 1)} {points}{bounds_text} {on}"
    verb, first = "gains" if delta > 0 else "loses", stage["results"][0]["model"]
    evidence = [f"95 % interval of the change {interval_text(bounds, 1, signed=True)}"] if bounds else []
    if row["p_value"] is not None:
        evidence.append(f"p {p_value(row['p_value'])}" if row["p_value"] < 0.001 else f"p = {p_value(row['p_value'])}")
    doubt = "; not distinguishable from zero" if bounds and bounds[0] <= 0 <= bounds[1] else ""
    change = f"{verb} {number(abs(delta), 1)} {points} against" if delta else f"has as many {points} as"
    return f"{change} {first} ({', '.join(evidence) or 'no interval'}{doubt}) {on}"


def _onnx(row: Document, rows: Sequence[Document]) -> str:
    speedup = row["speedup_vs_onnx"] or {}
    if not speedup.get("ratio") or speedup["vs"] in {row["model"], (row["speedup"] or {}).get("vs")}:
        return ""
    note = ", the baseline in the same runtime" if row["runtime"] == "onnxruntime" else ""
    return f"{row['model']} is {speedup_text(speedup, rows)}{note}."


def _where(row: Document, rows: Sequence[Document], run: Run) -> str:
    entry = first_cell(run).get(row["model"])
    parts = [f"Timed on {str(entry.get('device', 'cpu')).upper()}, {cell_text(entry)}."] if entry else []
    if row["size_mb"] and rows[0]["size_mb"] and row is not rows[0]:
        size, first = number(row["size_mb"], 1), number(rows[0]["size_mb"], 1)
        parts.append(f"The weights take {size} MB on disk, those of {rows[0]['model']} take {first} MB.")
    stages = run.measured("bench")
    floor = noise_floor(stages[-1].get("control") or []) if entry else None
    if floor is not None and floor > NOISY:
        parts.append(f"The machine was not quiet: differences below {floor:.0f} % are noise.")
    return " ".join(parts)
