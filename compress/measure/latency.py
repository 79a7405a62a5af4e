"""The stage `bench`: latency of any mix of checkpoints and ONNX artifacts, interleaved in one process.

In every round each candidate runs once (after one call that warms the caches), in shuffled order, so that a machine
that slows down slows all of them. A speedup is the median of the round-by-round ratios, with a bootstrap interval.
The first model runs twice in every round: the ratio of these two, the A/A control, shows the noise floor.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress import console, fs, machine
from compress.measure.statistics import median_ratio
from compress.model.config import is_graph, max_tokens, read_config
from compress.model.scorer import Forward, open_model
from compress.settings import BenchSettings
from compress.stage import Inputs

WARM_UPS = 3
MIN_TAIL = 100  # samples below which a 99th percentile says nothing
CONTROL = "A/A control"


@dataclass(frozen=True)
class Candidate:
    """A model in the benchmark. `open` returns its forward function for a number of threads."""

    name: str
    folder: Path
    runtime: str
    precision: str
    vocab_size: int

    def open(self, device: str, threads: int) -> Forward:
        """Open the model; PyTorch's threads are set around each call, ONNX Runtime's in its session."""
        forward = open_model(self.folder, device, threads)
        return forward if self.runtime == "onnxruntime" else _with_torch_threads(forward, threads)


def run(inputs: Inputs, settings: BenchSettings, output: Path) -> dict[str, Any]:
    """Measure every source in every cell of the grid; returns the document that `bench --json` prints."""
    candidates = [candidate_of(name, folder) for name, folder in inputs.sources.items()]
    longest = min(_max_tokens(candidate) for candidate in candidates)
    if max(settings.seq_len) > longest:
        console.warn(f"lengths above {longest}, the shortest limit of these models, are timed at {longest}")
    cells = [
        (threads, batch, length)
        for threads in settings.threads
        for batch in settings.batch_size
        for length in dict.fromkeys(min(length, longest) for length in settings.seq_len)
    ]
    static: dict[str, dict[str, Any]] = {}
    results: list[dict[str, Any]] = []
    controls: list[dict[str, Any]] = []
    rng = np.random.default_rng(inputs.seed)
    with _torch_threads_kept(candidates):
        for threads in settings.threads:
            forwards = {c.name: c.open(settings.device, threads) for c in candidates}
            # Only now, so that a missing device or a damaged file has shown before any time is spent.
            static = static or {c.name: _static_facts(c, settings) for c in candidates}
            for cell in (cell for cell in cells if cell[0] == threads):
                times = _measure(candidates, forwards, cell, settings, rng)
                results += _describe(candidates, times, cell, static, settings)
                ratio, interval = median_ratio(times[candidates[0].name], times[CONTROL])
                controls.append({"threads": threads, "batch_size": cell[1], "seq_len": cell[2], "ratio": ratio, "ci95": list(interval)})
            del forwards
            gc.collect()
    best = {entry["model"]: {"p50_ms": entry["latency_ms"]["p50"], "speedup": entry["speedup"]["ratio"]} for entry in reversed(results)}
    return {"machine": machine.facts(), "results": results, "control": controls, "metrics": best}


def quick_speedup(before: Forward, after: Forward, batch: dict[str, np.ndarray], rounds: int = 30) -> tuple[float, list[float]]:
    """Time two models against each other, interleaved; returns how much faster `after` is, with its 95 % interval."""
    seconds = np.empty((rounds, 2))
    for number in range(-WARM_UPS, rounds):
        for column, forward in enumerate((before, after)):
            forward(batch)
            start = time.perf_counter()
            forward(batch)
            seconds[number, column] = time.perf_counter() - start
    ratio, interval = median_ratio(seconds[:, 0], seconds[:, 1])
    return ratio, list(interval)


def random_batch(rng: np.random.Generator, vocab_size: int, batch_size: int, length: int) -> dict[str, np.ndarray]:
    """Return full rows of random token ids: latency does not depend on which words they are."""
    ids = rng.integers(min(1000, vocab_size // 2), vocab_size, (batch_size, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def candidate_of(name: str, folder: Path) -> Candidate:
    """Describe a checkpoint (PyTorch, fp32) or an ONNX artifact (ONNX Runtime, its recorded precision)."""
    vocab_size = read_config(folder)["vocab_size"]
    if is_graph(folder):
        precision = (fs.read_manifest(folder) or {}).get("precision", "fp32")
        return Candidate(name, folder, "onnxruntime", precision, vocab_size)
    return Candidate(name, folder, "pytorch", "fp32", vocab_size)


def _max_tokens(candidate: Candidate) -> int:
    return max_tokens(read_config(candidate.folder))


@contextmanager
def _torch_threads_kept(candidates: list[Candidate]) -> Iterator[None]:
    """Put PyTorch's number of threads back on leaving (it is the whole process's)."""
    if all(candidate.runtime == "onnxruntime" for candidate in candidates):
        yield
        return
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _with_torch_threads(forward: Forward, threads: int) -> Forward:
    import torch

    def limited(batch: dict[str, np.ndarray]) -> np.ndarray:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        return forward(batch)

    return limited


def _measure(
    candidates: list[Candidate], forwards: dict[str, Forward], cell: tuple[int, int, int], settings: BenchSettings, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Run the interleaved rounds of one cell; returns each runner's seconds, (rounds,).

    Stops early at the time limit, but never before five rounds.
    """
    threads, batch_size, length = cell
    batch = random_batch(rng, min(candidate.vocab_size for candidate in candidates), batch_size, length)
    runners: dict[str, Callable[[dict[str, np.ndarray]], np.ndarray]] = {**forwards, CONTROL: forwards[candidates[0].name]}
    for runner in runners.values():
        for _ in range(WARM_UPS):
            runner(batch)
    samples: dict[str, list[float]] = {name: [] for name in runners}
    names = list(runners)
    deadline = time.monotonic() + settings.seconds
    label = f"threads {threads}, batch {batch_size}, length {length}"
    collected = gc.isenabled()
    gc.disable()
    try:
        with console.progress(label, settings.rounds) as advance:
            for number in range(settings.rounds):
                for position in rng.permutation(len(names)):
                    runner = runners[names[position]]
                    runner(batch)
                    start = time.perf_counter()
                    runner(batch)
                    samples[names[position]].append(time.perf_counter() - start)
                advance()
                if number >= 4 and time.monotonic() > deadline:
                    break
    finally:
        if collected:
            gc.enable()
    return {name: np.array(values) for name, values in samples.items()}


def _describe(
    candidates: list[Candidate],
    times: dict[str, np.ndarray],
    cell: tuple[int, int, int],
    static: dict[str, dict[str, Any]],
    settings: BenchSettings,
) -> list[dict[str, Any]]:
    """Return one result a candidate, with its speedup over the first and over the first fp32 ONNX model."""
    threads, batch_size, length = cell
    first = candidates[0]
    onnx = next((c for c in candidates if c.runtime == "onnxruntime" and c.precision == "fp32"), None)
    results = []
    for candidate in candidates:
        seconds = times[candidate.name]
        results.append(
            {
                "model": candidate.name,
                "runtime": candidate.runtime,
                "device": settings.device,
                "precision": candidate.precision,
                "threads": threads,
                "batch_size": batch_size,
                "seq_len": length,
                "rounds": len(seconds),
                "latency_ms": _percentiles(seconds),
                "throughput_per_s": batch_size / float(np.median(seconds)),
                **static[candidate.name],
                "speedup": _speedup(first, candidate, times),
                "speedup_vs_onnx": _speedup(onnx, candidate, times) if onnx else None,
            }
        )
    return results


def _percentiles(seconds: np.ndarray) -> dict[str, float | None]:
    """Return p50, p90, p99 and mean in milliseconds; the p99 only where there are enough samples."""
    milliseconds = 1e3 * seconds
    return {
        "p50": float(np.percentile(milliseconds, 50)),
        "p90": float(np.percentile(milliseconds, 90)),
        "p99": float(np.percentile(milliseconds, 99)) if len(milliseconds) >= MIN_TAIL else None,
        "mean": float(milliseconds.mean()),
    }


def _speedup(baseline: Candidate, candidate: Candidate, times: dict[str, np.ndarray]) -> dict[str, Any]:
    ratio, interval = median_ratio(times[baseline.name], times[candidate.name])
    return {"vs": baseline.name, "ratio": ratio, "ci95": list(interval)}


def _static_facts(candidate: Candidate, settings: BenchSettings) -> dict[str, Any]:
    """Return what does not depend on the cell: weights on disk, and peak memory in a process of its own."""
    weights = [path for path in candidate.folder.iterdir() if path.suffix in {".safetensors", ".onnx", ".data"}]
    size = sum(path.stat().st_size for path in weights) / 1e6
    return {"size_mb": size, "peak_rss_mb": _peak_memory(candidate.folder, settings.device) if settings.memory else None}


def _peak_memory(folder: Path, device: str) -> float | None:
    """Load the model and run it once in a fresh process; returns its peak resident memory in megabytes."""
    command = [sys.executable, "-m", "compress.measure.memory", str(folder), device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        console.warn(f"peak memory of {folder.name} could not be measured: {done.stderr.strip().splitlines()[-1:]}")
        return None
    return json.loads(done.stdout.splitlines()[-1])["peak_rss_mb"]
