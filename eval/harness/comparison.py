"""Measure all candidates of one model and task: accuracy on the artifact, then interleaved rounds in every cell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import psutil

from compress.benchmark.accuracy import score_rows
from compress.benchmark.microbenchmark import random_batch
from compress.core import artifacts, console, digests
from compress.core.errors import CompressError, ResourceError
from compress.data.metrics import METRICS
from compress.data.task import Task
from compress.inference.evaluator import Evaluator
from compress.models.config import read_config
from compress.models.label_mapping import map_labels
from compress.models.reference import digest_model
from harness import rounds
from harness.candidates import Candidate
from harness.rounds import CONTROL
from harness.suite import QUICK_EXAMPLES, Suite
from harness.workers import Worker, WorkerFailed

Document = dict[str, Any]
WEIGHTS = {".safetensors", ".onnx", ".data", ".bin"}
PROCESS_BYTES = 300_000_000  # Python and a runtime, before any weights (PyTorch more, ONNX Runtime less)
EVAL_BATCH = 32


def compare(suite: Suite, task: Task, teacher: Path, candidates: list[Candidate], logs: Path, quick: bool) -> Document:
    """Return the document of a table: each candidate's accuracy and cells, or the reason why it has none.

    Raises:
        CompressError: the first candidate, which all are compared with, cannot be measured.
    """
    rows: dict[str, Document] = {candidate.name: _row(candidate) for candidate in candidates}
    controls: list[Document] = []
    rng = np.random.default_rng(suite.seed)
    first = candidates[0].name
    for number, threads in enumerate(suite.threads):
        alive = [candidate for candidate in candidates if "reason" not in rows[candidate.name]]
        _check_memory(alive)
        workers = _open(alive, rows, logs, threads)
        try:
            if number == 0:
                _accuracy(workers, rows, suite, task, teacher, quick)
            for cell in suite.cells:
                batch = random_batch(rng, read_config(teacher)["vocab_size"], cell.batch_size, cell.seq_len)
                key = f"threads {threads}, {cell.title}"
                console.info(key)
                times, failed = rounds.measure(dict(workers), key, batch, suite.rounds, suite.seconds, suite.warm_ups, rng)
                for name in (first, CONTROL):  # without these two there is nothing to compare with
                    if name in failed:
                        raise WorkerFailed(f"{name}: {failed[name]}")
                where = {"threads": threads, **cell.model_dump()}
                described = rounds.describe(times, first)
                controls.append(where | described.pop(CONTROL))
                for name, timing in described.items():
                    rows[name].setdefault("cells", []).append(where | timing)
                for name in failed:
                    workers.pop(name).close()
                    rows[name]["reason"] = failed[name]
        finally:
            for worker in workers.values():
                worker.close()
    for name, row in rows.items():
        if "reason" in row:
            console.warn(f"{name} was not measured: {row['reason']}")
    return {
        "task": task.spec.name,
        "main_metric": task.spec.main_metric,
        "teacher": {"digest": digest_model(teacher), "model_type": read_config(teacher)["model_type"]},
        "candidates": list(rows.values()),
        "control": controls,
    }


def _row(candidate: Candidate) -> Document:
    row: Document = {"name": candidate.name, "peer": candidate.peer.name, "variant": candidate.variant}
    if candidate.folder is None:
        return row | {"reason": candidate.reason or "not made"}
    return row | {"size_mb": weight_bytes(candidate.folder) / 1e6, "digest": digests.digest_json(artifacts.digest_files(candidate.folder))}


def weight_bytes(folder: Path) -> int:
    """Return the bytes of the weights' files."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in WEIGHTS)


def _check_memory(candidates: list[Candidate]) -> None:
    """Refuse to start processes that do not fit into memory together: a machine that swaps measures nothing."""
    needed = sum(PROCESS_BYTES + 2 * weight_bytes(candidate.folder) for candidate in [candidates[0], *candidates] if candidate.folder)
    available = psutil.virtual_memory().available
    if needed > available:
        raise ResourceError(
            f"{len(candidates)} candidates need about {needed / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB are free",
            "compare fewer at a time: --only PEER",
        )


def _open(candidates: list[Candidate], rows: dict[str, Document], logs: Path, threads: int) -> dict[str, Worker]:
    """Start one process a candidate, and a second one of the first; returns those that opened their model.

    Raises:
        WorkerFailed: the first one, or its control, did not.
    """
    logs.mkdir(parents=True, exist_ok=True)
    started = {candidate.name: candidate for candidate in candidates} | {CONTROL: candidates[0]}
    workers: dict[str, Worker] = {}
    for number, (name, candidate) in enumerate(started.items()):
        console.info(f"opening {name}, threads {threads}")
        try:
            worker = workers[name] = candidate.start(logs / f"{number:02d}-{candidate.peer.name}-{candidate.variant}.log", threads)
            opened = worker.open(candidate.peer.module, candidate.variant, Path(candidate.folder or "."), threads)
        except CompressError as error:
            if name in workers:
                workers.pop(name).close()
            if candidate is candidates[0]:
                for worker in workers.values():
                    worker.close()
                raise WorkerFailed(f"{name} cannot be opened: {error.message}") from error
            rows[name]["reason"] = error.message
        else:
            if name != CONTROL:
                rows[name] |= {"versions": opened["versions"], "facts": opened["facts"]}
    return workers


def _accuracy(workers: dict[str, Worker], rows: dict[str, Document], suite: Suite, task: Task, teacher: Path, quick: bool) -> None:
    """Add each candidate's metrics to its row, from the process that is timed afterwards; all get the same tokens."""
    split = task.evaluation_split(suite.split)
    classes = map_labels(read_config(teacher), task, "the teacher")
    evaluator = Evaluator(task, split, teacher, classes, limit=QUICK_EXAMPLES if quick else None)
    examples = evaluator.examples
    first: list[np.ndarray] | None = None
    for name in [name for name in workers if name != CONTROL]:
        console.info(f"accuracy of {name} on {split}")
        try:
            predictions = evaluator.predict(workers[name].logits, batch_size=EVAL_BATCH)
        except WorkerFailed as error:
            if first is None:
                raise
            rows[name]["reason"] = error.message
            workers.pop(name).close()
            continue
        metric_rows = [METRICS[metric].rows(examples.labels, predictions, task.class_names) for metric in task.spec.metrics]
        rows[name] |= {"split": split, "n": len(examples), **score_rows(task.spec.metrics, metric_rows, first)}
        first = first or metric_rows
