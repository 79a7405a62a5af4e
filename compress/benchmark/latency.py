"""The stage `bench`: the latency of any mix of checkpoints and ONNX artifacts, interleaved in one process.

A speedup is the median of the ratios of the rounds, with a bootstrap interval. The first model runs twice in every round: the
ratio of these two, the A/A control, shows the noise floor.
"""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np

from compress.benchmark.cores import pinned, torch_threads_restored
from compress.benchmark.corpus_throughput import corpus_entries, corpus_groups
from compress.benchmark.grid import PYTORCH, Candidate, Cell, candidates_of, grid_cells
from compress.benchmark.interleaving import interleaved
from compress.benchmark.latency_results import cell_results, control, speedup_waterfall
from compress.benchmark.open_runner import open_runner
from compress.benchmark.runners import Runner
from compress.benchmark.static_facts import StaticFacts, static_facts
from compress.benchmark.workload import Workload, random_workload, sample_texts, task_workload
from compress.core import console, machine
from compress.data.examples import Examples
from compress.results import BenchDocument
from compress.settings import BenchSettings
from compress.stage import Inputs


def run(inputs: Inputs, settings: BenchSettings, output: Path) -> BenchDocument:
    """Measure every model in every cell of the grid; returns the document that `bench --json` prints.

    Raises:
        UsageError: no requested runtime can run a model, or the task's lengths are requested without a task.
        ResourceError: a runtime or the device is unavailable.
    """
    candidates = [
        candidate for name, folder in inputs.sources.items() for candidate in candidates_of(name, folder, settings, inputs.pooling)
    ]
    cells = grid_cells(candidates, settings)
    examples = sample_texts(inputs.task, settings) if settings.task_lengths else None
    groups = corpus_groups(inputs.task, inputs.seed) if settings.corpus else []
    rng = np.random.default_rng(inputs.seed)
    facts: dict[str, StaticFacts] = {}
    document: BenchDocument = {"machine": machine.facts(), "results": [], "control": [], "waterfall": [], "metrics": {}}
    with torch_threads_restored(any(candidate.runtime == PYTORCH for candidate in candidates)):
        for threads in settings.threads:
            with pinned(threads if settings.pin else None):
                runners, runs_on = _open(candidates, settings, threads)
                # Only now, so that a missing device or a damaged file shows before any time is spent.
                facts = facts or {c.name: static_facts(c, runs_on[c.name], settings.device, settings.memory) for c in candidates}
                for cell in (cell for cell in cells if cell.threads == threads):
                    workload = _workload(candidates, runners, cell, inputs, settings, examples, rng)
                    _measure_cell(document, candidates, cell, workload, facts, settings, rng)
                if groups:
                    document.setdefault("corpus", []).extend(
                        corpus_entries(candidates, runners, inputs.task, groups, threads, settings.seconds, rng)
                    )
                del runners
                gc.collect()
    document["metrics"] = {
        entry["model"]: {"p50_ms": entry["latency_ms"]["p50"], "speedup": entry["speedup"]["ratio"]}
        for entry in reversed(document["results"])
    }
    return document


def _open(candidates: list[Candidate], settings: BenchSettings, threads: int) -> tuple[dict[str, Runner], dict[str, list[str]]]:
    """Open every candidate; returns by name its runner and what executes it."""
    opened = {
        c.name: open_runner(c.folder, c.runtime, c.precision, settings.device, threads, settings.check, c.pooling) for c in candidates
    }
    return {name: runner for name, (runner, _) in opened.items()}, {name: runs_on for name, (_, runs_on) in opened.items()}


def _workload(
    candidates: list[Candidate],
    runners: dict[str, Runner],
    cell: Cell,
    inputs: Inputs,
    settings: BenchSettings,
    examples: Examples | None,
    rng: np.random.Generator,
) -> Workload:
    """Return the inputs of a cell."""
    if cell.seq_len is not None or examples is None:
        return random_workload(candidates, runners, cell, rng)
    return task_workload(candidates, runners, cell, inputs.task, examples, settings.tokenize)


def _measure_cell(
    document: BenchDocument,
    candidates: list[Candidate],
    cell: Cell,
    workload: Workload,
    facts: dict[str, StaticFacts],
    settings: BenchSettings,
    rng: np.random.Generator,
) -> None:
    """Time one cell and add its results to the document."""
    with console.progress(cell.title, settings.rounds) as advance:
        times = interleaved(workload.runners, workload.batches, settings.rounds, settings.seconds, rng, advance)
    described = cell.as_json(workload.tokens)
    document["results"] += cell_results(candidates, times, described, facts, settings)
    document["control"].append(control(candidates, times, described))
    waterfall = speedup_waterfall(candidates, times, described)
    if waterfall is not None:
        document["waterfall"].append(waterfall)
