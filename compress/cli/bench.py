"""`compress bench`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from compress.cli.options import SectionCommand, given, settings_options
from compress.cli.task_options import task_of, task_options
from compress.core import console
from compress.settings import BenchSettings

if TYPE_CHECKING:
    from compress.results.measurements import CellDocument, CorpusEntry
    from compress.results.objects import BenchResult
    from compress.results.values import Ratio

BUSY = 3  # p90 over p50, above which other work on the machine disturbs the times
KEYS = ("machine", "results", "control", "waterfall", "corpus", "seconds")


@click.command("bench", cls=SectionCommand, short_help="Measure latency, throughput, memory and size, interleaved.")
@click.argument("models", nargs=-1, required=True)
@task_options
@settings_options(BenchSettings, skip=("task_lengths",))
def bench_command(models: tuple[str, ...], **values: object) -> None:
    """Measure latency, throughput, memory and size, interleaved.

    Checkpoints run in PyTorch, ONNX artifacts in ONNX Runtime (or in OpenVINO with --runtime). In every round each model runs
    once, in shuffled order. A speedup is the median of the per-round ratios to the first model, with a 95 % interval. The A/A
    control times the first model against itself; its interval is the noise floor. Fixed lengths are full rows of random
    tokens. With --task the task's texts are timed as well, each batch padded to its longest text. --corpus measures how many
    documents per second a model encodes.

    \b
    Examples:
      compress bench teacher graph int8
      compress bench teacher int8 --batch-size 1 8 --seq-len 128 --threads 1 2
      compress bench teacher int8 --task bbc-news --tokenize
      compress bench teacher graph int8 --runtime auto --runtime openvino
      compress bench embedder int8 --kind sentence-embedding --beir DIR --corpus --threads 2
    """
    from compress import api

    task = task_of(values)
    document = api.bench(models, task, **given(BenchSettings, values))
    console.result({key: document[key] for key in KEYS if key in document}, lambda: show_benchmark(document))


def show_benchmark(document: BenchResult) -> None:
    """Print the results as a table."""
    rows = []
    for entry in document.results:
        latency, memory = entry["latency_ms"], entry["peak_rss_mb"]
        rows.append(
            [
                entry["model"],
                f"{entry['runtime']} {entry['precision']}",
                f"{entry['threads']}",
                f"{entry['batch_size']}",
                cell_length(entry),
                f"{latency['p50']:.2f}",
                f"{latency['p90']:.2f}",
                f"{entry['throughput_per_s']:.0f}",
                f"{entry['size_mb']:.1f}",
                "-" if entry["load_ms"] is None else f"{entry['load_ms']:.0f}",
                f"{memory:.0f}" if memory is not None else "-",
                ratio_with_interval(entry["speedup"]),
                ratio_with_interval(entry["speedup_vs_onnx"]),
            ]
        )
    columns = ["model", "runtime", "threads", "batch", "length", "p50 ms", "p90 ms", "per s", "MB", "load ms", "peak MB"]
    columns += ["speedup", "vs ONNX fp32"]
    if all(entry["speedup_vs_onnx"] is None for entry in document.results):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    console.table(columns, rows, str(document.machine["cpu"]))
    busy = [entry["model"] for entry in document.results if entry["latency_ms"]["p90"] > BUSY * entry["latency_ms"]["p50"]]
    if busy:
        console.warn(f"the times of {', '.join(dict.fromkeys(busy))} vary a lot (p90 over {BUSY} times p50): is the machine busy?")
    for control in document.control:
        low, high = control["ci95"]
        cell = f"threads {control['threads']}, batch {control['batch_size']}, length {cell_length(control)}"
        print(f"A/A control ({cell}): {control['ratio']:.3f} [{low:.3f}, {high:.3f}]")
        if "padding" in control:
            print(f"padding every text to the task's maximum length ({cell}): {ratio_with_interval(control['padding'])} slower")
    _show_corpus(document.get("corpus") or [])
    for entry in document.waterfall[:1]:
        if len(entry["steps"]) > 1:
            steps = " x ".join(f"{step['ratio']:.2f} ({step['what']})" for step in entry["steps"])
            print(f"factors of the speedup (batch {entry['batch_size']}, length {cell_length(entry)}): {steps}")


def _show_corpus(entries: Sequence[CorpusEntry]) -> None:
    """Print how fast each model encodes the corpus."""
    if entries:
        rows = [
            [entry["model"], f"{entry['threads']}", f"{entry['texts_per_s']:.1f}", ratio_with_interval(entry["speedup"])]
            for entry in entries
        ]
        title = f"{entries[0]['texts']} texts of the corpus, {entries[0]['tokens']:.0f} tokens on average, with tokenization"
        console.table(["model", "threads", "texts per s", "speedup"], rows, title)


def cell_length(entry: CellDocument) -> str:
    """Return a cell's length: a number of tokens, or the mean of the task's texts."""
    return f"task's, mean {entry['seq_len']}" if entry["lengths"] == "task" else f"{entry['seq_len']}"


def ratio_with_interval(speedup: Ratio | None) -> str:
    """Return a speedup with its interval as text."""
    if speedup is None:
        return "-"
    low, high = speedup["ci95"]
    return f"{speedup['ratio']:.2f}x [{low:.2f}, {high:.2f}]"
