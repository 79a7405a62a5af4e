"""Make what is compared: the teacher, our artifacts by this project's verbs, and each peer's by the peer itself.

Everything made is kept and used again as long as what it was made from is the same.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers import OURS, PEERS, Peer

import compress
from compress.core import artifacts, console, digests, files, locks
from compress.core.errors import CompressError
from compress.data.task import Task
from compress.models.inputs import encode_for
from compress.models.reference import digest_model
from harness import environment
from harness.suite import Step, Suite
from harness.workers import BUILD_SECONDS, Worker

WORKER = Path(__file__).parent.parent / "worker.py"
BASELINE = "PyTorch fp32"
TeacherTask = dict[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A row of the table: a peer's variant, or one of ours, with its artifact; or the reason why there is none."""

    name: str
    peer: Peer
    variant: str
    folder: Path | None = None
    reason: str | None = None

    def start(self, log: Path, threads: int) -> Worker:
        """Start its process, in the environment of its tool.

        Raises:
            CompressError: its environment cannot be made.
        """
        python = environment.interpreter(self.peer)
        return Worker(self.name, [str(python), str(WORKER)], log, environment.variables(self.peer.isolated, threads))


def make(suite: Suite, task: Task, teacher: Path, output: Path, only: set[str]) -> list[Candidate]:
    """Return the candidates, the teacher in PyTorch first; what cannot be made has a reason instead of a folder."""
    pytorch = PEERS["pytorch"]
    candidates = [Candidate(BASELINE, pytorch, "fp32", teacher)]
    for name, steps in suite.ours.items():
        candidates.append(_ours(name, steps, suite.seed, task, teacher, output / "ours"))
    calibration = write_calibration(task, teacher, suite.calib_samples, output / "calibration.json")
    for name, variants in suite.peers.items():
        for variant in variants:
            if (not only or name in only) and (name, variant) != ("pytorch", "fp32"):
                candidates.append(_peer(PEERS[name], variant, teacher, calibration, output / "peers" / f"{name}-{variant}"))
    return candidates


def make_teacher(model: str, task: Task, suite: Suite, output: Path) -> Path:
    """Fine-tune a model on a task (nothing to do where that was done); returns the checkpoint."""
    console.info(f"teacher: {model} on {task.spec.name}")
    document = task.spec.model_dump(mode="json", exclude_none=True)
    compress.finetune(model, document, output, seed=suite.seed, overwrite=True, **suite.teacher)
    return output


def _ours(name: str, steps: list[Step], seed: int, task: Task, teacher: Path, output: Path) -> Candidate:
    label = f"compress {name}"
    console.info(label)
    document = task.spec.model_dump(mode="json", exclude_none=True)
    current = teacher
    try:
        for number, step in enumerate(steps, 1):
            folder = output / name / f"{number:02d}-{step.do}"
            options: dict[str, Any] = {"seed": seed, "overwrite": True, **step.settings}
            if step.do == "distill":
                compress.distill(teacher, step.student or current, document, folder, **options)
            elif step.do == "export":
                compress.export(current, folder, document, **options)
            else:
                getattr(compress, step.do)(current, document, folder, **options)
            current = folder
    except CompressError as error:
        return Candidate(label, OURS, "onnx", reason=error.message)
    return Candidate(label, OURS, "onnx", current)


def write_calibration(task: Task, teacher: Path, count: int, path: Path) -> Path:
    """Write token batches of training texts, one text each, for peers that calibrate."""
    examples = task.split("train")
    drawn = np.random.default_rng(0).permutation(len(examples))[:count]
    data = encode_for(teacher, examples.take(drawn), task.spec.input_spec)
    batches = [{name: array.tolist() for name, array in data.batch([i]).items()} for i in range(len(data))]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(batches) + "\n")
    return path


def build_key(peer: Peer, variant: str, teacher: Path, calibration: Path) -> str:
    """Return a digest of what a peer's artifact depends on."""
    requirements = [digests.digest_file(peer.requirements), sys.version] if peer.isolated else []
    return digests.digest_json(
        [variant, digests.digest_file(peer.source), requirements, digest_model(teacher), digests.digest_file(calibration)]
    )


def _peer(peer: Peer, variant: str, teacher: Path, calibration: Path, folder: Path) -> Candidate:
    name = peer.variants[variant]
    if not peer.builds:
        return Candidate(name, peer, variant, teacher)
    try:
        python = environment.interpreter(peer)
        key = build_key(peer, variant, teacher, calibration)
        if (artifacts.read_manifest(folder) or {}).get("key") == key:
            console.info(f"{name}: unchanged")
        else:
            console.info(name)
            build(peer, variant, [str(python), str(WORKER)], teacher, calibration, folder, key)
    except CompressError as error:
        return Candidate(name, peer, variant, reason=error.message)
    return Candidate(name, peer, variant, folder)


def build(peer: Peer, variant: str, command: list[str], teacher: Path, calibration: Path, folder: Path, key: str) -> None:
    """Let a peer make its artifact in a separate process; the folder is complete or absent.

    Raises:
        WorkerFailed: with what the peer said.
    """
    with locks.locked(folder), files.atomic_folder(folder) as temporary:
        worker = Worker(variant, command, folder.with_name(f"{folder.name}.log"), environment.variables(peer.isolated, 1))
        try:
            answer = worker.ask(
                BUILD_SECONDS, do="build", module=peer.module, variant=variant, teacher=str(teacher), output=str(temporary),
                calibration=str(calibration),
            )  # fmt: skip
        finally:
            worker.close()
        manifest = {"key": key, "peer": peer.name, "variant": variant, "versions": answer["versions"]}
        files.write_json(temporary / artifacts.MANIFEST, manifest | {"files": artifacts.digest_files(temporary)})
