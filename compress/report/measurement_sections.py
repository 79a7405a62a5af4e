"""The sections about what was measured: charts that compare models, and the tables that hold the same figures in text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from compress.report.entries import is_interval
from compress.report.formatting import (
    capitalized,
    cell_text,
    interval_text,
    length_text,
    metric_name,
    number,
    p_value,
    runtime_text,
    times_100,
)
from compress.report.run_folder import Document, Run
from compress.report.tables import Cell, figure, folded, html_table, note, without_empty
from compress.report.waterfall import waterfall_of


def comparison_section(rows: Sequence[Document], charts: dict[str, str]) -> str:
    """Return the charts that compare models."""
    undrawn = [row["model"] for row in rows if row["accuracy"] is None or row["p50_ms"] is None]
    caption = "Up and down: 95 % interval of the metric. Across: from the median to the 90th percentile. Dotted: the best trade-offs."
    caption += f" Not drawn, for want of a metric or a latency: {', '.join(undrawn)}." if undrawn else ""
    beside = figure(charts.get("speedups"), "Speedup in the first cell of the benchmark, with its 95 % interval.")
    beside += figure(charts.get("sizes"), "The weights alone, without tokenizer and config.")
    parts = [
        figure(charts.get("scatter"), caption, wide=True),
        figure(charts.get("accuracies"), "Overlapping intervals do not mean equal models: the change in the table is paired, and finer."),
        f'<div class="columns">{beside}</div>' if beside else "",
    ]
    title = "Accuracy against latency" if parts[0] else "Comparison"
    return f'<section class="charts"><h2>{title}</h2>\n{"".join(parts)}</section>' if any(parts) else ""


def accuracy_section(name: str, stage: Document) -> str:
    """Return the table of one evaluation: every metric, and the paired comparison with the first model."""
    results = stage.get("results") or []
    if not results:
        return ""
    metrics, first = list(results[0].get("metrics") or {}), results[0]["model"]
    columns = ["Model", *(f"{capitalized(metric_name(metric))} × 100" for metric in metrics)]
    compared = any(entry.get("vs_first") for entry in results)
    lines: list[list[Cell]] = []
    for entry in results:
        scores, bounds, against = entry.get("metrics") or {}, entry.get("ci95") or {}, entry.get("vs_first") or {}
        line: list[Cell] = [entry["model"]]
        line += [(number(times_100(scores.get(metric))), interval_text(bounds.get(metric), 1, 100)) for metric in metrics]
        if compared:
            line += [
                number(times_100(against.get("delta")), signed=True),
                interval_text(against.get("ci95"), 2, 100, signed=True) or "–",
                p_value(against.get("p_value")),
            ]
        lines.append(line)
    columns += ["Change, points", "95 % interval", "p"] if compared else []
    told = f"{stage.get('task')}, split {stage.get('split')}, n = {stage.get('n')}."
    if compared:
        metric = metric_name(str(stage.get("main_metric")))
        told += f" Changes of {metric} against {first}, on the very same examples; an interval that holds zero shows no difference."
    return f"<h2>Accuracy: {escape(name)}</h2>\n{note(told)}\n{html_table(columns, lines)}"


def waterfall_section(run: Run, rows: Sequence[Document], charts: dict[str, str]) -> str:
    """Return the split of the last benchmark's speedup into factors: chart, sentence and table."""
    found = waterfall_of(next(reversed(run.measured("bench")), {}))
    if found is None:
        return ""
    steps, total = found["steps"], found["total"]
    first, last = steps[0]["from"], steps[-1]["to"]
    runtimes = {row["model"]: runtime_text(row) for row in rows}
    factors = " × ".join(f"{number(step['ratio'])} ({step['what']})" for step in steps)
    product = 1.0
    lines: list[list[Cell]] = []
    for step in steps:
        product *= step["ratio"]
        ends = [runtimes.get(step[end]) or "" for end in ("from", "to")]
        lines.append(
            [step["what"], (f"{step['from']} → {step['to']}", " → ".join(filter(None, ends))), speedup_cell(step), f"{number(product)}×"]
        )
    lines.append(["total", f"{first} → {last}", speedup_cell(total), ""])
    sentence = (
        f"{last} is {number(total['ratio'])} times as fast as {first}. That is the product of its steps, each the ratio of two neighbours: "
        f"{factors} = {number(product)} (each step is a median of its own, so the product may differ a little). "
        f"Timed with {cell_text(found)}."
    )
    chart = figure(charts.get("waterfall"), "Each step starts where the one above ends; thin lines are its 95 % interval.")
    columns = ["What changed", "Step", "Factor", "So far"]
    return f"<h2>Where the speedup comes from</h2>\n{note(sentence)}\n{chart}\n{html_table(columns, lines, text=(1,))}"


def latency_section(name: str, stage: Document, charts: dict[str, str]) -> str:
    """Return the charts and the table of one benchmark, with what its A/A control says."""
    results = stage.get("results") or []
    if not results:
        return ""
    columns = ["Model", "Threads", "Batch", "Length", "p50, ms", "p90", "p99", "Mean", "Per second", "Speedup", "Over ONNX fp32", "Rounds"]
    lines: list[list[Cell]] = []
    for entry in results:
        times = entry.get("latency_ms") or {}
        line: list[Cell] = [entry["model"], *(str(entry.get(key, "–")) for key in ("threads", "batch_size"))]
        line.append((length_text(entry), "with tokenization" if entry.get("tokenized") else ""))
        line += [number(times.get(key)) for key in ("p50", "p90", "p99", "mean")]
        line.append(number(entry.get("throughput_per_s"), 1))
        line += [speedup_cell(entry.get(key), entry["model"]) for key in ("speedup", "speedup_vs_onnx")]
        lines.append([*line, str(entry.get("rounds", "–"))])
    controls = stage.get("control") or []
    return "\n".join(
        [
            f"<h2>Latency: {escape(name)}</h2>",
            note(control_note(controls, results[0]["model"])),
            note(padding_note(controls, results[-1]["model"])),
            figure(charts.get("lengths"), "Median latency over the length of the input; lower is faster.", wide=True),
            figure(charts.get("latencies"), "Median latency in every cell; shorter is faster.", wide=True),
            folded(html_table(*without_empty(columns, lines)), len(lines), f"all {len(lines)} measurements"),
            cold_start_table(results),
        ]
    )


def cold_start_table(results: Sequence[Document]) -> str:
    """Return the table of what a fresh process needs: one line a model, as it does not depend on threads or lengths."""
    keys = {"load_ms": "Load, ms", "first_run_ms": "First run, ms", "peak_rss_mb": "Peak memory, MB"}
    models = {entry["model"]: entry for entry in reversed(results)}
    lines: list[list[Cell]] = [[name, *(number(entry.get(key), 0) for key in keys)] for name, entry in reversed(models.items())]
    columns, lines = without_empty(["Model", *keys.values()], lines)
    if len(columns) < 2:
        return ""
    meant = note("Load: imports and opening. First run: one input, before any warm-up.")
    return f"<h3>In a fresh process</h3>\n{meant}\n{html_table(columns, lines)}"


def control_note(found: Sequence[Document], model: str) -> str:
    """Say what the same model, timed against itself, shows of the machine's noise."""
    intervals = [entry["ci95"] for entry in found if is_interval(entry.get("ci95"))]
    if not intervals:
        return ""
    floor = 100 * max(abs(bound - 1) for bounds in intervals for bound in bounds)
    ratios = ", ".join(number(entry.get("ratio"), 3) for entry in found)
    told = f"A/A control: {model} timed against itself gave a ratio of {ratios}. Differences below {floor:.1f} % are noise on this machine."
    quiet = all(low <= 1 <= high for low, high in intervals)
    return (
        told if quiet else f"{told} A ratio of 1 lies outside an interval: the machine was not quiet, so read small differences with care."
    )


def padding_note(found: Sequence[Document], model: str) -> str:
    """Say what padding the task's texts to the longest that the task allows costs the last model."""
    paid = next((entry["padding"] for entry in found if (entry.get("padding") or {}).get("ratio")), None)
    if paid is None:
        return ""
    told = f", 95 % interval {interval_text(paid.get('ci95'))}" if is_interval(paid.get("ci95")) else ""
    return (
        f"Padding: on the task's own texts {model} takes {number(paid['ratio'])} times as long when every text is padded to the "
        f"longest that the task allows{told}. That is a matter of serving, not of compression, and is in none of the speedups."
    )


def speedup_cell(speedup: Document | None, model: str = "") -> Cell:
    """Return the cell of a speedup, with its interval."""
    if not speedup or speedup.get("ratio") is None:
        return "–"
    if speedup.get("vs") == model:
        return ("1", "the baseline")
    return (f"{number(speedup['ratio'])}×", interval_text(speedup.get("ci95")))
