"""The sections about measurements: charts that compare models, and tables with the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from compress.report.entries import is_interval, noise_floor
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
from compress.report.index_note import index_note
from compress.report.run_folder import Document, Run
from compress.report.tables import TableCell, figure, folded, html_table, note, without_empty
from compress.report.waterfall import waterfall_of


def comparison_section(rows: Sequence[Document], charts: dict[str, str]) -> str:
    """Return the charts that compare models."""
    undrawn = [row["model"] for row in rows if row["accuracy"] is None or row["p50_ms"] is None]
    caption = "Vertical bars: 95 % interval of the metric. Horizontal bars: median to 90th percentile. Dotted line: Pareto front."
    caption += f" Not drawn, because accuracy or latency was not measured: {', '.join(undrawn)}." if undrawn else ""
    bars = figure(charts.get("speedups"), "Speedup in the first cell of the benchmark, with its 95 % interval.")
    bars += figure(charts.get("sizes"), "Weights only, without tokenizer and config.")
    parts = [
        figure(charts.get("scatter"), caption, wide=True),
        figure(charts.get("accuracies"), "Overlapping intervals do not mean equal models; the paired change in the table is more precise."),
        f'<div class="columns">{bars}</div>' if bars else "",
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
    lines: list[list[TableCell]] = []
    for entry in results:
        scores, bounds, against = entry.get("metrics") or {}, entry.get("ci95") or {}, entry.get("vs_first") or {}
        line: list[TableCell] = [entry["model"]]
        line += [(number(times_100(scores.get(metric))), interval_text(bounds.get(metric), 1, 100)) for metric in metrics]
        if compared:
            line += [
                number(times_100(against.get("delta")), signed=True),
                interval_text(against.get("ci95"), 2, 100, signed=True) or "–",
                p_value(against.get("p_value")),
            ]
        lines.append(line)
    columns += ["Change, points", "95 % interval", "p"] if compared else []
    caption = f"{stage.get('task')}, split {stage.get('split')}, n = {stage.get('n')}."
    if compared:
        metric = metric_name(str(stage.get("main_metric")))
        caption += f" Changes of {metric} against {first}, on the same examples. An interval that contains zero shows no clear difference."
    notes = "".join(f"\n{note(sentence)}" for entry in results if (sentence := index_note(entry)))
    return f"<h2>Accuracy: {escape(name)}</h2>\n{note(caption)}\n{html_table(columns, lines)}{notes}"


def waterfall_section(run: Run, rows: Sequence[Document], charts: dict[str, str]) -> str:
    """Return the factors of the last benchmark's speedup: sentence, chart and table."""
    entry = waterfall_of(next(reversed(run.measured("bench")), {}))
    if entry is None:
        return ""
    steps, total = entry["steps"], entry["total"]
    first, last = steps[0]["from"], steps[-1]["to"]
    runtimes = {row["model"]: runtime_text(row) for row in rows}
    factors = " × ".join(f"{number(step['ratio'])} ({step['what']})" for step in steps)
    product = 1.0
    lines: list[list[TableCell]] = []
    for step in steps:
        product *= step["ratio"]
        ends = [runtimes.get(step[end]) or "" for end in ("from", "to")]
        lines.append(
            [step["what"], (f"{step['from']} → {step['to']}", " → ".join(filter(None, ends))), speedup_cell(step), f"{number(product)}×"]
        )
    lines.append(["total", f"{first} → {last}", speedup_cell(total), ""])
    sentence = (
        f"{last} is {number(total['ratio'])}× as fast as {first}. The factors of the steps: {factors} = {number(product)}. "
        f"Each factor is a median of its own, so their product may differ slightly from the total. "
        f"Timed with {cell_text(entry)}."
    )
    chart = figure(charts.get("waterfall"), "Each bar starts where the one above ends. Thin lines: 95 % intervals.")
    columns = ["What changed", "Step", "Factor", "Product so far"]
    return f"<h2>Where the speedup comes from</h2>\n{note(sentence)}\n{chart}\n{html_table(columns, lines, text=(1,))}"


def latency_section(name: str, stage: Document, charts: dict[str, str]) -> str:
    """Return the charts and the table of one benchmark, with its A/A control."""
    results = stage.get("results") or []
    if not results:
        return ""
    columns = ["Model", "Threads", "Batch", "Length", "p50, ms", "p90", "p99", "Mean", "Per second", "Speedup", "vs ONNX fp32", "Rounds"]
    lines: list[list[TableCell]] = []
    for entry in results:
        times = entry.get("latency_ms") or {}
        line: list[TableCell] = [entry["model"], *(str(entry.get(key, "–")) for key in ("threads", "batch_size"))]
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
            figure(charts.get("latencies"), "Median latency in every cell; lower is faster.", wide=True),
            folded(html_table(*without_empty(columns, lines)), len(lines), f"all {len(lines)} measurements"),
            corpus_table(stage),
            cold_start_table(results),
        ]
    )


def cold_start_table(results: Sequence[Document]) -> str:
    """Return the table of cold starts: one row per model, because threads and lengths do not matter."""
    keys = {"load_ms": "Load, ms", "first_run_ms": "First run, ms", "peak_rss_mb": "Peak memory, MB"}
    models = {entry["model"]: entry for entry in reversed(results)}
    lines: list[list[TableCell]] = [[name, *(number(entry.get(key), 0) for key in keys)] for name, entry in reversed(models.items())]
    columns, lines = without_empty(["Model", *keys.values()], lines)
    if len(columns) < 2:
        return ""
    caption = note("Load: imports and opening the model. First run: one input, without warm-up.")
    return f"<h3>Cold start, in a new process</h3>\n{caption}\n{html_table(columns, lines)}"


def control_note(controls: Sequence[Document], model: str) -> str:
    """Return what the A/A control shows about the machine's noise."""
    floor = noise_floor(controls)
    if floor is None:
        return ""
    ratios = ", ".join(number(entry.get("ratio"), 3) for entry in controls)
    text = f"A/A control: {model} timed against itself gave a ratio of {ratios}. Differences below {floor:.1f} % are noise on this machine."
    intervals = [entry["ci95"] for entry in controls if is_interval(entry.get("ci95"))]
    quiet = all(low <= 1 <= high for low, high in intervals)
    return text if quiet else f"{text} An interval does not contain 1: other work ran on the machine, so do not trust small differences."


def padding_note(controls: Sequence[Document], model: str) -> str:
    """Return how much slower the last model is when all texts are padded to the task's maximum length."""
    padded = next((entry["padding"] for entry in controls if (entry.get("padding") or {}).get("ratio")), None)
    if padded is None:
        return ""
    bounds = f", 95 % interval {interval_text(padded.get('ci95'))}" if is_interval(padded.get("ci95")) else ""
    return (
        f"Padding: on the task's texts {model} takes {number(padded['ratio'])}× as long if every text is padded to the task's maximum "
        f"length{bounds}. This depends on serving, not on compression, and is not part of any speedup."
    )


def corpus_table(stage: Document) -> str:
    """Return how fast the models encode a corpus; an empty text if that was not measured."""
    entries = stage.get("corpus") or []
    if not entries:
        return ""
    lines: list[list[TableCell]] = [
        [entry["model"], str(entry["threads"]), number(entry["texts_per_s"], 1), speedup_cell(entry["speedup"], entry["model"])]
        for entry in entries
    ]
    caption = f"{entries[0]['texts']} texts of the corpus, {number(entries[0]['tokens'], 0)} tokens on average, with tokenization."
    return f"<h3>Encoding a corpus</h3>\n{note(caption)}\n{html_table(['Model', 'Threads', 'Texts per second', 'Speedup'], lines)}"


def speedup_cell(speedup: Document | None, model: str = "") -> TableCell:
    """Return the cell of a speedup, with its interval."""
    if not speedup or speedup.get("ratio") is None:
        return "–"
    if speedup.get("vs") == model:
        return ("1", "the baseline")
    return (f"{number(speedup['ratio'])}×", interval_text(speedup.get("ci95")))
