"""The stage `bench`: latency of any mix of checkpoints and ONNX artifacts, interleaved in one process.

In every round each candidate runs once (after one call that warms the caches), in shuffled order, so that a machine
that slows down slows all of them. A speedup is the median of the round-by-round ratios, with a bootstrap interval.
The first model runs twice in every round: the ratio of these two, the A/A control, shows the noise floor.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from compress.benchmark.microbenchmark import WARM_UPS, random_batch
from compress.benchmark.runners import Batch, Runner, TokenizingRunner, open_runner
from compress.benchmark.statistics import median_ratio
from compress.benchmark.timing_worker import fresh_python
from compress.core import artifacts, console, machine
from compress.core.errors import UsageError
from compress.data.encoding import encode_examples
from compress.data.examples import Examples
from compress.data.task import Task
from compress.inference.routes import recorded_runtimes
from compress.models.config import max_tokens, read_config
from compress.models.layout import OPENVINO_GRAPH, is_graph
from compress.models.tokenizer import load_tokenizer, pad_id
from compress.results import BenchDocument
from compress.settings import BenchSettings
from compress.stage import Inputs

MIN_TAIL = 100  # samples below which a 99th percentile says nothing
MIN_ROUNDS = 5
DISTINCT = 64  # batches of real texts that the rounds take in turn
CONTROL = "A/A control"
PADDED = "padded to the longest"
Times = dict[str, np.ndarray]


@dataclass(frozen=True)
class Candidate:
    """A model in the benchmark: where it is, and how it is to be run."""

    name: str
    folder: Path
    runtime: str
    precision: str
    vocab_size: int


@dataclass(frozen=True)
class Cell:
    """What is timed: threads, texts in a batch, and their tokens (None: the lengths of the task's own texts)."""

    threads: int
    batch_size: int
    seq_len: int | None

    def describe(self, tokens: int) -> dict[str, Any]:
        """Return the cell as it stands in results; `tokens` is the (mean) length."""
        lengths = "task" if self.seq_len is None else "fixed"
        return {"threads": self.threads, "batch_size": self.batch_size, "seq_len": tokens, "lengths": lengths}


@dataclass(frozen=True)
class Work:
    """The inputs of a cell: each runner's batches, taken in turn, and their mean number of tokens."""

    batches: dict[str, list[Any]]
    tokens: int


def run(inputs: Inputs, settings: BenchSettings, output: Path) -> BenchDocument:
    """Measure every source in every cell of the grid; returns the document that `bench --json` prints."""
    candidates = [c for name, folder in inputs.sources.items() for c in candidates_of(name, folder, settings)]
    cells = grid(candidates, settings)
    examples = _texts(inputs.task, settings) if settings.task_lengths else None
    facts: dict[str, dict[str, Any]] = {}
    results: list[dict[str, Any]] = []
    controls: list[dict[str, Any]] = []
    waterfalls: list[dict[str, Any]] = []
    rng = np.random.default_rng(inputs.seed)
    with _torch_threads_kept(candidates):
        for threads in settings.threads:
            with pinned(threads if settings.pin else None):
                opened = {c.name: open_runner(c.folder, c.runtime, c.precision, settings.device, threads) for c in candidates}
                # Only now, so that a missing device or a damaged file has shown before any time is spent.
                facts = facts or {c.name: {**_static_facts(c, settings), "runs_on": opened[c.name][1]} for c in candidates}
                for cell in (cell for cell in cells if cell.threads == threads):
                    runners = {name: runner for name, (runner, _) in opened.items()}
                    runners, work = prepare(candidates, runners, cell, settings, rng, inputs.task_or_none, examples)
                    times = _measure(runners, work, settings, rng, label=_title(cell))
                    where = cell.describe(work.tokens)
                    results += _describe(candidates, times, where, facts, settings)
                    controls.append(where | _ratio(times[candidates[0].name], times[CONTROL]))
                    if PADDED in times:
                        controls[-1]["padding"] = _ratio(times[PADDED], times[candidates[-1].name])
                    if (found := waterfall(candidates, times)) is not None:
                        waterfalls.append(where | found)
                del opened
                gc.collect()
    best = {entry["model"]: {"p50_ms": entry["latency_ms"]["p50"], "speedup": entry["speedup"]["ratio"]} for entry in reversed(results)}
    return {"machine": machine.facts(), "results": results, "control": controls, "waterfall": waterfalls, "metrics": best}


def candidates_of(name: str, folder: Path, settings: BenchSettings) -> list[Candidate]:
    """Return a model once for every runtime that is asked for and can run it.

    `auto` is PyTorch for a checkpoint, and for an artifact what it records: ONNX Runtime unless it was tuned for others.

    Raises:
        UsageError: no runtime that was asked for can run it.
    """
    vocab_size = read_config(folder)["vocab_size"]
    graph = is_graph(folder)
    manifest = artifacts.read_manifest(folder) or {}
    hints = manifest.get("runtime", {}) if settings.device == "cpu" else {}
    own = "+".join(sorted(recorded_runtimes(hints))) if graph else "pytorch"
    able = {"onnxruntime", "openvino", own} if graph else {"pytorch"}
    runtimes = [own if wanted == "auto" else wanted for wanted in settings.runtime]
    usable = [runtime for runtime in dict.fromkeys(runtimes) if runtime in able]
    if not usable:
        kind = "an ONNX artifact" if graph else "a checkpoint"
        raise UsageError(f"{name} is {kind}, which {', '.join(runtimes)} does not run", f"add --runtime {own}, or --runtime auto")
    recorded = manifest.get("precision", "fp32") if graph else "fp32"
    if "openvino" in settings.runtime and not (folder / OPENVINO_GRAPH).is_file() and manifest.get("method") == "dynamic":
        console.warn(f"{name}: OpenVINO runs dynamically quantized graphs several times slower than ONNX Runtime")
    found = []
    for runtime in usable:
        converts = runtime == "pytorch" or (runtime == "openvino" and recorded == "fp32")
        shown = name if runtime == usable[0] else f"{name} ({runtime})"
        precision = settings.precision if converts else recorded
        if runtime == own == "openvino" and "openvino" not in settings.runtime and recorded == "fp32":
            precision = hints.get("openvino", {}).get("precision", recorded)
        found.append(Candidate(shown, folder, runtime, precision, vocab_size))
    return found


def grid(candidates: Sequence[Candidate], settings: BenchSettings) -> list[Cell]:
    """Return the cells: threads x batch sizes x lengths, the task's own lengths last; too long ones are cut, with a warning."""
    longest = min(max_tokens(read_config(candidate.folder)) for candidate in candidates)
    if max(settings.seq_len) > longest:
        console.warn(f"lengths above {longest}, the shortest limit of these models, are timed at {longest}")
    lengths: list[int | None] = list(dict.fromkeys(min(length, longest) for length in settings.seq_len))
    if settings.task_lengths:
        lengths.append(None)
    return [Cell(threads, batch, length) for threads in settings.threads for batch in settings.batch_size for length in lengths]


def _texts(task: Task, settings: BenchSettings) -> Examples:
    """Draw the texts of all batches from the task's evaluation split."""
    examples = task.split(task.evaluation_split())
    count = DISTINCT * max(settings.batch_size)
    return examples.take(np.random.default_rng(0).integers(0, len(examples), count))


def prepare(
    candidates: Sequence[Candidate], runners: dict[str, Runner], cell: Cell, settings: BenchSettings, rng: np.random.Generator,
    task: Task | None, examples: Examples | None,
) -> tuple[dict[str, Runner], Work]:  # fmt: skip
    """Return the runners of a cell, the control among them, and their inputs.

    On the task's own texts each candidate gets batches made by its own tokenizer, padded to the longest text of the
    batch; the last one runs also on batches padded to the task's limit, which shows what padding costs.
    """
    first, last = candidates[0].name, candidates[-1].name
    runners = {**runners, CONTROL: runners[first]}
    if cell.seq_len is not None:
        batch = random_batch(rng, min(candidate.vocab_size for candidate in candidates), cell.batch_size, cell.seq_len)
        return runners, Work({name: [runner.prepare(batch)] for name, runner in runners.items()}, cell.seq_len)
    if task is None or examples is None:
        raise UsageError("the task's own lengths need a task", "give --task T")
    groups = [range(start, start + cell.batch_size) for start in range(0, DISTINCT * cell.batch_size, cell.batch_size)]
    batches: dict[str, list[Any]] = {}
    tokens = 0.0
    for candidate in candidates:
        limit = min(task.spec.max_length, max_tokens(read_config(candidate.folder)))
        input_spec = replace(task.spec.input_spec, max_length=limit)
        tokenizer, padding = load_tokenizer(candidate.folder, candidate.vocab_size), pad_id(candidate.folder)

        def encode(texts: Examples, tokenizer: Any = tokenizer, input_spec: Any = input_spec, padding: int = padding) -> Batch:
            data = encode_examples(tokenizer, texts, input_spec, padding)
            return data.batch(range(len(data)))

        runner, parts = runners[candidate.name], [examples.take(group) for group in groups]
        encoded = [encode(part) for part in parts]
        tokens = tokens or float(np.mean([batch["attention_mask"].sum(1).mean() for batch in encoded]))
        if settings.tokenize:
            runners[candidate.name] = TokenizingRunner(encode, runner)
            batches[candidate.name] = parts
        else:
            batches[candidate.name] = [runner.prepare(batch) for batch in encoded]
        if candidate.name == last and not settings.tokenize:
            runners[PADDED] = runner
            batches[PADDED] = [runner.prepare(padded(batch, limit, padding)) for batch in encoded]
    runners[CONTROL], batches[CONTROL] = runners[first], batches[first]
    return runners, Work(batches, round(tokens))


def padded(batch: Batch, length: int, padding: int) -> Batch:
    """Return a batch padded further, to (batch, length)."""
    fill = {"input_ids": padding}
    return {
        name: np.pad(array, ((0, 0), (0, max(0, length - array.shape[1]))), constant_values=fill.get(name, 0))
        for name, array in batch.items()
    }


@contextmanager
def _torch_threads_kept(candidates: Sequence[Candidate]) -> Iterator[None]:
    """Put PyTorch's number of threads back on leaving (it is the whole process's)."""
    if all(candidate.runtime != "pytorch" for candidate in candidates):
        yield
        return
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def pinned(count: int | None) -> Iterator[None]:
    """Keep this process, and the threads that it starts within, on `count` of its cores (None: leave it alone)."""
    if count is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _title(cell: Cell) -> str:
    length = "the task's lengths" if cell.seq_len is None else f"length {cell.seq_len}"
    return f"threads {cell.threads}, batch {cell.batch_size}, {length}"


def _measure(runners: dict[str, Runner], work: Work, settings: BenchSettings, rng: np.random.Generator, label: str = "timing") -> Times:
    """Run the interleaved rounds of one cell; returns each runner's seconds, (rounds,)."""
    with console.progress(label, settings.rounds) as advance:
        return interleaved(runners, work.batches, settings.rounds, settings.seconds, rng, advance)


def interleaved(
    runners: dict[str, Runner],
    batches: dict[str, list[Any]],
    rounds: int,
    seconds: float,
    rng: np.random.Generator,
    advance: Callable[[], None],
) -> Times:
    """Time runners in turns; returns each one's seconds, (rounds,).

    In a round every runner takes its batch of that round's number, in shuffled order. Stops early at the time limit, but never
    before five rounds.
    """
    names = list(runners)
    for name in names:
        for number in range(WARM_UPS):
            runners[name].seconds(batches[name][number % len(batches[name])])
    samples: dict[str, list[float]] = {name: [] for name in names}
    deadline = time.monotonic() + seconds
    collected = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            for position in rng.permutation(len(names)):
                name = names[position]
                prepared = batches[name][number % len(batches[name])]
                runners[name].seconds(prepared)
                samples[name].append(runners[name].seconds(prepared))
            advance()
            if number + 1 >= MIN_ROUNDS and time.monotonic() > deadline:
                break
    finally:
        if collected:
            gc.enable()
    return {name: np.array(values) for name, values in samples.items()}


def _describe(
    candidates: Sequence[Candidate], times: Times, where: dict[str, Any], facts: dict[str, dict[str, Any]], settings: BenchSettings
) -> list[dict[str, Any]]:
    """Return one result a candidate, with its speedup over the first and over the first fp32 ONNX model."""
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
                **where,
                "tokenized": settings.tokenize and where["lengths"] == "task",
                "rounds": len(seconds),
                "latency_ms": _percentiles(seconds),
                "throughput_per_s": where["batch_size"] / float(np.median(seconds)),
                **facts[candidate.name],
                "speedup": {"vs": first.name} | _ratio(times[first.name], seconds),
                "speedup_vs_onnx": {"vs": onnx.name} | _ratio(times[onnx.name], seconds) if onnx else None,
            }
        )
    return results


def waterfall(candidates: Sequence[Candidate], times: Times) -> dict[str, Any] | None:
    """Split the last model's speedup over the first into the factors of the models between them.

    A step leads to the next model that is faster than the step before and no faster than the last; what it changed
    (runtime, shape, precision) is read from the models. The factors' product is the total, up to rounding of medians.
    """
    medians = {c.name: float(np.median(times[c.name])) for c in candidates}
    last = candidates[-1]
    rungs = [candidates[0]]
    for candidate in candidates[1:-1]:
        if medians[rungs[-1].name] > medians[candidate.name] > medians[last.name]:
            rungs.append(candidate)
    if len(candidates) < 2:
        return None
    rungs.append(last)
    steps = [{"from": a.name, "to": b.name, "what": change(a, b), **_ratio(times[a.name], times[b.name])} for a, b in pairwise(rungs)]
    return {"steps": steps, "total": _ratio(times[candidates[0].name], times[last.name])}


def change(before: Candidate, after: Candidate) -> str:
    """Say what differs between two models: runtime, size, precision."""
    told = []
    if before.runtime != after.runtime:
        told.append("runtime")
    old, new = ((artifacts.read_manifest(c.folder) or {}).get("params") for c in (before, after))
    if old and new and old != new:
        told.append("smaller model" if new < old else "larger model")
    if before.precision != after.precision:
        told.append(after.precision)
    return " + ".join(told) or "weights"


def _ratio(baseline: np.ndarray, candidate: np.ndarray) -> dict[str, Any]:
    ratio, interval = median_ratio(baseline, candidate)
    return {"ratio": ratio, "ci95": list(interval)}


def _percentiles(seconds: np.ndarray) -> dict[str, float | None]:
    """Return p50, p90, p99 and mean in milliseconds; the p99 only where there are enough samples."""
    milliseconds = 1e3 * seconds
    return {
        "p50": float(np.percentile(milliseconds, 50)),
        "p90": float(np.percentile(milliseconds, 90)),
        "p99": float(np.percentile(milliseconds, 99)) if len(milliseconds) >= MIN_TAIL else None,
        "mean": float(milliseconds.mean()),
    }


COLD: dict[str, float | None] = {"load_ms": None, "first_run_ms": None, "peak_rss_mb": None}


def _static_facts(candidate: Candidate, settings: BenchSettings) -> dict[str, Any]:
    """Return what does not depend on the cell: weights on disk; cold start and peak memory in a process of its own."""
    weights = [path for path in candidate.folder.iterdir() if path.suffix in {".safetensors", ".onnx", ".data"}]
    size = sum(path.stat().st_size for path in weights) / 1e6
    return {"size_mb": size, **(_cold_start(candidate, settings.device) if settings.memory else COLD)}


def _cold_start(candidate: Candidate, device: str) -> dict[str, float | None]:
    """Load the model and run it once in a fresh process; returns `load_ms`, `first_run_ms` and `peak_rss_mb`."""
    command = fresh_python("compress.benchmark.cold_start", str(candidate.folder), candidate.runtime, device, candidate.precision)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        reason = done.stderr.strip().splitlines()[-1:]
    except subprocess.TimeoutExpired:
        reason = ["no answer within five minutes"]
    console.warn(f"cold start and peak memory of {candidate.name} could not be measured: {reason}")
    return COLD
