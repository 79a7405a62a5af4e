"""`compress bench`."""

from __future__ import annotations

from typing import Any

import click

from compress import console
from compress.cli import options
from compress.settings import BenchSettings

KEYS = ("machine", "results", "control", "seconds")


@click.command("bench", short_help="Measure latency, throughput, memory and size, interleaved.")
@click.argument("models", nargs=-1, required=True)
@options.settings_options(BenchSettings)
def command(models: tuple[str, ...], **values: Any) -> None:
    """Measure latency, throughput, memory and size, interleaved.

    Checkpoints run in PyTorch fp32, ONNX artifacts in ONNX Runtime. In every round each model runs once, in shuffled
    order; a speedup is the median of the round-by-round ratios to the first model, with a 95 % interval. The A/A
    control times the first model against itself: its interval is the noise floor. Tokenization is not included.

    \b
    Examples:
      compress bench teacher graph int8
      compress bench teacher int8 --batch-size 1 --batch-size 8 --seq-len 128 --threads 1 --threads 2
    """
    from compress import api

    document = api.bench(models, **options.given(BenchSettings, values))
    console.result({key: document[key] for key in KEYS}, lambda: show(document))


def show(document: dict[str, Any]) -> None:
    """Print the results as a table."""
    rows = []
    for entry in document["results"]:
        latency, memory = entry["latency_ms"], entry["peak_rss_mb"]
        rows.append(
            [
                entry["model"],
                f"{entry['runtime']} {entry['precision']}",
                f"{entry['threads']}",
                f"{entry['batch_size']}",
                f"{entry['seq_len']}",
                f"{latency['p50']:.2f}",
                f"{latency['p90']:.2f}",
                f"{entry['throughput_per_s']:.0f}",
                f"{entry['size_mb']:.1f}",
                f"{memory:.0f}" if memory is not None else "-",
                ratio(entry["speedup"]),
                ratio(entry["speedup_vs_onnx"]),
            ]
        )
    columns = ["model", "runtime", "threads", "batch", "length", "p50 ms", "p90 ms", "per s", "MB", "peak MB"]
    console.table([*columns, "speedup", "vs ONNX fp32"], rows, document["machine"]["cpu"])
    for control in document["control"]:
        low, high = control["ci95"]
        cell = f"threads {control['threads']}, batch {control['batch_size']}, length {control['seq_len']}"
        print(f"A/A control ({cell}): {control['ratio']:.3f} [{low:.3f}, {high:.3f}]")


def ratio(speedup: dict[str, Any] | None) -> str:
    """Write a speedup with its interval."""
    if speedup is None:
        return "-"
    low, high = speedup["ci95"]
    return f"{speedup['ratio']:.2f}x [{low:.2f}, {high:.2f}]"
