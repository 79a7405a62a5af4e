"""Timing in a separate process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.benchmark.timing_worker import ServingSettings, TimingWorker, fresh_python
from compress.core.errors import ResourceError
from compress.export import RUNTIME_HINTS
from tests import tiny

Maker = Callable[..., Path]
SERVING: ServingSettings = {
    "runtime": "onnxruntime", "precision": "fp32", "threads": 1, "hints": RUNTIME_HINTS,
    "batch_size": 1, "seq_len": 4, "vocab_size": len(tiny.vocabulary()), "seed": 0,
}  # fmt: skip


def test_a_worker_answers_request_after_request_and_names_what_it_cannot_open(checkpoint: Maker, artifact: Maker, tmp_path: Path) -> None:
    worker, folder = TimingWorker(**SERVING), artifact(checkpoint())
    assert worker.seconds(folder) > 0
    speedup, (low, high) = worker.speedup(folder, folder, rounds=5)
    assert low <= speedup <= high
    with pytest.raises(ResourceError, match="could not be timed"):
        worker.seconds(tmp_path / "missing")
    assert worker.seconds(folder) > 0


def test_a_file_in_the_current_folder_does_not_shadow_a_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('shadowed')", encoding="utf-8")
    done = subprocess.run(fresh_python("compress.core.version"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
