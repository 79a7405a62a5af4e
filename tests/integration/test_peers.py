"""A whole run of `eval/run.py` on a tiny model: our own verbs and worker, PyTorch's place taken by a fake tool, peers that fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peers
import pytest
import run
import yaml
from harness import candidates, environment
from peers import Peer

from compress.core import artifacts, files
from tests import tiny
from tests.unit.eval import fakes

Run = Callable[..., int]


@pytest.fixture
def suite_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the fake tool, a tiny task, and a suite of them; returns the suite's file."""
    (tmp_path / "fake_tool.py").write_text(fakes.TOOL, encoding="utf-8")
    variants = {name: f"Fake {name}" for name in ("fp32", "good", "unloadable", "dies")}
    fake = {
        "pytorch": Peer("pytorch", "fake_tool", variants, isolated=False, builds=False),
        "openvino": Peer("openvino", "fake_tool", {"broken": "Fake broken"}),
        "optimum-onnx": Peer("optimum-onnx", "fake_tool", {"int8": "Fake int8"}),
    }
    for name, peer in fake.items():
        monkeypatch.setitem(peers.PEERS, name, peer)
    monkeypatch.setattr(Peer, "source", property(lambda peer: tmp_path / "fake_tool.py"))
    own, outer = environment.interpreter, os.environ.get("PYTHONPATH", "")

    def interpreter(peer: Peer) -> Path:
        if peer.name == "optimum-onnx":
            raise environment.ResourceError("optimum-onnx could not be installed: no disk")
        return own(peers.OURS)

    monkeypatch.setattr(environment, "interpreter", interpreter)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2]), outer])
    monkeypatch.setattr(environment, "variables", lambda isolated, threads: dict(os.environ) | {"PYTHONPATH": path})
    task = tiny.write_task(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({key: value for key, value in task.items() if key != "name"}), encoding="utf-8")
    document = {
        "schema": 1,
        "name": "tiny",
        "models": ["./unused"],
        "tasks": ["tiny.yaml"],
        "ours": {"int8": [{"do": "quantize"}]},
        "peers": {"pytorch": ["good", "unloadable", "dies"], "openvino": ["broken"], "optimum-onnx": ["int8"]},
        "cells": [{"batch_size": 2, "seq_len": 8}],
        "rounds": 5,
    }
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return tmp_path / "suite.yaml"


def test_a_run_measures_what_works_and_reports_what_does_not(
    suite_file: Path, own_checkpoint: Callable[[], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    given = [str(suite_file), "--teacher", str(own_checkpoint()), "-o", str(output)]
    assert run.main(given) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == (output / "results.md").read_text(encoding="utf-8").strip()
    (table,) = files.read_json(output / "results.json")["tables"]
    rows = {row["name"]: row for row in table["candidates"]}
    reasons = {name: row["reason"] for name, row in rows.items() if "reason" in row}
    assert reasons == {
        "Fake unloadable": "ImportError: no module named tool",
        "Fake dies": "the process ended with code 9",
        "Fake broken": "RuntimeError: no such operator",
        "Fake int8": "optimum-onnx could not be installed: no disk",
    }
    for name in ("PyTorch fp32", "compress int8", "Fake good"):
        assert rows[name]["n"] == 24
        assert [cell["rounds"] for cell in rows[name]["cells"]] == [5]
    assert rows["Fake good"]["vs_first"]["p_value"] == 1.0
    assert rows["compress int8"]["facts"] == {"providers": ["CPUExecutionProvider"]}
    assert len(table["control"]) == 1
    manifest = output / "unused" / "tiny" / "ours" / "int8" / "01-quantize" / "compress.json"
    made = manifest.stat().st_mtime_ns
    assert run.main([*given, "--only", "pytorch"]) == 0
    assert manifest.stat().st_mtime_ns == made
    assert "Fake int8" not in capsys.readouterr().out


def test_a_teacher_is_trained_once(suite_file: Path, own_checkpoint: Callable[[], Path], tmp_path: Path) -> None:
    document = yaml.safe_load(suite_file.read_text(encoding="utf-8"))
    suite_file.write_text(yaml.safe_dump(document | {"models": [str(own_checkpoint())], "teacher": {"epochs": 1}, "peers": {}}))
    made = []
    for _ in range(2):
        assert run.main([str(suite_file), "-o", str(tmp_path / "out")]) == 0
        (manifest,) = (tmp_path / "out").glob("*/tiny/teacher/compress.json")
        made.append(manifest.stat().st_mtime_ns)
    assert made[0] == made[1]
    (table,) = files.read_json(tmp_path / "out" / "results.json")["tables"]
    assert table["model"] == str(own_checkpoint())


def test_a_first_candidate_that_cannot_run_ends_the_run(
    suite_file: Path, own_checkpoint: Callable[[], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fake_tool.py").write_text("def open_model(*given): raise MemoryError('too large')", encoding="utf-8")
    assert run.main([str(suite_file), "--teacher", str(own_checkpoint()), "-o", str(tmp_path / "out"), "--only", "pytorch"]) == 1
    assert "PyTorch fp32 cannot be opened: MemoryError: too large" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--task", "mrpc"], 2, "has no task 'mrpc'"),
        (["--quick", "--write-results"], 2, "gives no results to write"),
        (["--only", "openvino", "--write-results"], 2, "gives no results to write"),
        (["--data", "nowhere", "--teacher", "nowhere"], 4, "no train.parquet"),
    ],
)
def test_usage_errors(suite_file: Path, more: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([str(suite_file), *more]) == code
    assert message in capsys.readouterr().err


def test_our_steps_follow_each_other(own_checkpoint: Callable[[], Path], tmp_path: Path, tiny_task: dict[str, Any]) -> None:
    from harness.suite import Step

    from compress.data.presets import resolve
    from compress.data.task import Task

    steps = [{"do": "prune", "with": {"target_flops": 0.5}}, {"do": "distill", "with": {"epochs": 1}}, {"do": "quantize"}]
    task = Task(resolve(tiny_task))
    made = candidates._ours("slim", [Step.model_validate(step) for step in steps], 0, task, own_checkpoint(), tmp_path / "ours")
    assert made.reason is None
    assert made.folder == tmp_path / "ours" / "slim" / "03-quantize"
    assert [entry.get("verb") for entry in (artifacts.read_manifest(made.folder) or {})["lineage"]][-3:] == ["prune", "distill", "quantize"]
    gated = [Step.model_validate({"do": "prune", "with": {"target_flops": 0.001}})]
    assert candidates._ours("none", gated, 0, task, own_checkpoint(), tmp_path / "ours").reason
