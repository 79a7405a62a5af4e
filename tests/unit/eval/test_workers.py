"""The real worker process with a fake tool: its protocol, its failures, and the caller's deadlines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from harness import candidates, environment, rounds, workers
from harness.rounds import CONTROL
from harness.workers import Worker, WorkerFailed
from peers import Peer

from compress.core import artifacts, files
from tests.unit.eval import fakes

BATCH = {"input_ids": np.array([[1, 2], [3, 4]]), "attention_mask": np.array([[1, 1], [1, 0]])}
Start = Callable[..., Worker]


@pytest.fixture
def start(tmp_path: Path, eval_folder: Path) -> Iterator[Start]:
    """Return a function from a variant of the fake tool to a worker that opened it."""
    (tmp_path / "fake_tool.py").write_text(fakes.TOOL, encoding="utf-8")
    started: list[Worker] = []

    def make(variant: str = "plain", opened: bool = True) -> Worker:
        variables = dict(os.environ) | {"PYTHONPATH": str(tmp_path)}
        worker = Worker(variant, [sys.executable, str(eval_folder / "worker.py")], tmp_path / f"{variant}.log", variables)
        started.append(worker)
        if opened:
            worker.open("fake_tool", variant, tmp_path, 1)
        return worker

    yield make
    for worker in started:
        worker.close()
        assert worker._process.poll() is not None


def test_answers_are_not_disturbed_by_what_libraries_print(start: Start, tmp_path: Path) -> None:
    worker = start()
    assert worker.logits(BATCH).tolist() == [[3, 2], [7, 1]]
    worker.prepare("k", BATCH, 2)
    assert 0 < worker.seconds("k") < 5
    worker.close()
    assert "noise" in (tmp_path / "plain.log").read_text(encoding="utf-8")


def test_open_tells_versions_and_facts(start: Start, tmp_path: Path) -> None:
    opened = start(opened=False).open("fake_tool", "plain", tmp_path, 2)
    assert opened["facts"] == {"threads": 2}
    assert opened["versions"]["numpy"] == np.__version__


def test_the_second_run_is_timed(start: Start) -> None:
    worker = start("slow")
    worker.prepare("k", BATCH, 1)
    assert 0.02 <= worker.seconds("k") < 0.04 + 1


def test_a_long_batch_passes_the_pipe(start: Start) -> None:
    ids = np.ones((64, 512), dtype=np.int64)
    assert start().logits({"input_ids": ids, "attention_mask": ids}).tolist() == [[512.0, 512.0]] * 64


def test_a_tool_that_raises_goes_on(start: Start, tmp_path: Path) -> None:
    worker = start(opened=False)
    with pytest.raises(WorkerFailed, match="ImportError: no module named tool"):
        worker.open("fake_tool", "unloadable", tmp_path, 1)
    with pytest.raises(WorkerFailed, match="KeyError: 'nothing'"):
        worker.seconds("nothing")
    with pytest.raises(WorkerFailed, match="unknown request"):
        worker.ask(5, do="__init__")
    worker.open("fake_tool", "plain", tmp_path, 1)


def test_a_process_that_dies_is_told(start: Start) -> None:
    worker = start("dies")
    worker.prepare("k", BATCH, 3)
    with pytest.raises(WorkerFailed, match="ended with code 9"):
        worker.seconds("k")
    with pytest.raises(WorkerFailed, match="ended with code 9"):
        worker.seconds("k")


def test_a_process_that_hangs_is_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "RUN_SECONDS", 0.3)
    worker = start("hangs")
    worker.prepare("k", BATCH, 3)
    with pytest.raises(WorkerFailed, match="no answer to 'time' within its time limit"):
        worker.seconds("k")
    assert worker._process.poll() is not None


def test_an_answer_that_is_no_json(tmp_path: Path) -> None:
    worker = Worker("odd", [sys.executable, "-c", "input(); print('hello'); input()"], tmp_path / "log", os.environ)
    with pytest.raises(WorkerFailed, match="no JSON answer to 'time'"):
        worker.seconds("k")


def test_rounds_of_real_processes(start: Start) -> None:
    found, failed = rounds.measure(
        {"first": start("plain"), "slow": start("slow"), "fails": start("fails"), CONTROL: start("plain")},
        "k", BATCH, 6, 30.0, 1, np.random.default_rng(0),
    )  # fmt: skip
    assert failed == {"fails": "ValueError: out of memory"}
    assert {name: len(times) for name, times in found.items()} == {"first": 6, "slow": 6, CONTROL: 6}
    described = rounds.describe(found, "first")
    assert described["slow"]["speedup"]["ratio"] < 0.5
    assert described["first"]["speedup"]["ratio"] == 1


@pytest.fixture
def peer() -> Peer:
    return Peer("fake", "fake_tool", {"plain": "Fake", "broken": "Broken"})


def test_a_build_is_whole_or_absent(tmp_path: Path, eval_folder: Path, peer: Peer, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "variables", lambda isolated, threads: dict(os.environ) | {"PYTHONPATH": str(tmp_path)})
    (tmp_path / "calibration.json").write_text('[{"input_ids": [[1]]}]', encoding="utf-8")
    command = [sys.executable, str(eval_folder / "worker.py")]
    given = (command, tmp_path / "teacher", tmp_path / "calibration.json")
    candidates.build(peer, "plain", *given, tmp_path / "out", "key")
    assert files.read_json(tmp_path / "out" / "model.json") == {"texts": 1, "teacher": "teacher"}
    manifest = artifacts.read_manifest(tmp_path / "out")
    assert manifest is not None
    assert (manifest["key"], list(manifest["files"])) == ("key", ["model.json"])
    with pytest.raises(WorkerFailed, match="RuntimeError: no such operator$"):
        candidates.build(peer, "broken", *given, tmp_path / "none", "key")
    assert not (tmp_path / "none").exists()
