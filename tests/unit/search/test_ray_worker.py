"""What runs on the nodes of a cluster."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from compress.core import hub, scratch
from compress.inference import kept_outputs
from compress.search import ray_worker
from compress.search.executor import Outcome
from compress.search.jobs import Job

if TYPE_CHECKING:
    from ray.actor import ActorProxy


def test_a_process_keeps_the_outputs_of_a_baseline_for_its_next_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(scratch, "adopt", lambda: None)
    monkeypatch.setattr(kept_outputs, "_kept", None)
    monkeypatch.setattr(ray_worker, "run_job", lambda *args: Outcome())
    job, board = cast("Job", SimpleNamespace(id="a", needs={})), cast("ActorProxy[ray_worker.Board]", None)
    ray_worker.work(job, str(tmp_path), str(tmp_path), hub.is_offline(), board)
    kept = kept_outputs._kept
    assert kept == {}
    ray_worker.work(job, str(tmp_path), str(tmp_path), hub.is_offline(), board)
    assert kept_outputs._kept is kept
