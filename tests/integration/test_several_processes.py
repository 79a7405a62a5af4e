"""Two processes train what one does, through the real command line: by PyTorch's launcher, and by what launchers tell processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

import compress
from tests import tiny
from tests.command_server import CommandServer

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # masks are drawn in each process
SETTINGS = {"precision": "fp32", "device": "cpu", "batch_size": 7, "lr": 1e-3}  # 7: the processes' shares differ, the last is of 4
NOISE = "attention.self.key.bias"  # has no influence, so its gradient is rounding, which AdamW blows up


def launch(folder: Path, *arguments: str, number: int = 2) -> subprocess.CompletedProcess[str]:
    """Run a command in several processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number), "-m", "compress"]
    environment = os.environ | {"PYTHONPATH": str(Path(compress.__file__).parent.parent)}
    return subprocess.run([*launcher, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


def differences(first: Path, second: Path) -> float:
    """Return the largest difference between two models' weights."""
    a, b = (load_file(folder / "model.safetensors") for folder in (first, second))
    return max(float(np.abs(a[name] - b[name]).max()) for name in a if not name.endswith(NOISE))


def flat(folder: Path) -> np.ndarray:
    """Return all of a model's weights in one row."""
    found = load_file(folder / "model.safetensors")
    return np.concatenate([found[name].ravel() for name in sorted(found) if not name.endswith(NOISE)])


def test_a_recipe_in_two_processes(tmp_path: Path) -> None:
    """Fine-tuning and distillation by both, what lies between by the first one alone."""
    tiny.write_encoder(tmp_path / "encoder", **NO_DROPOUT)
    stages = {
        "teacher": {"do": "finetune", "from": "model", "epochs": 2, **SETTINGS},
        "slim": {"do": "prune", "from": "teacher", "target_flops": 0.5, "calib_samples": 24, "steps": 1, "device": "cpu"},
        "student": {"do": "distill", "from": "slim", "teacher": "teacher", "epochs": 2, "method": "logits", **SETTINGS},
        "usual": {"do": "distill", "from": "slim", "teacher": "teacher", "epochs": 2, **SETTINGS},
    }
    document: dict[str, Any] = {
        "schema": 1,
        "name": "two",
        "model": "./encoder",
        "task": tiny.write_task(tmp_path / "task"),
        "stages": stages,
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    done = launch(tmp_path, "--json", "run", "two.yaml", "-o", "two")
    assert done.returncode == 0, done.stderr[:2000]
    assert json.loads(done.stdout)["stages_run"] == 4  # one document: the second process prints nothing
    assert len(re.findall(r"epoch 2: .*validation", done.stderr)) == 3
    compress.run(tmp_path / "two.yaml", tmp_path / "one")
    for stage, apart in (("01-teacher", 1e-4), ("03-student", 1e-3)):
        manifests = [json.loads((tmp_path / run / "stages" / stage / "compress.json").read_text()) for run in ("one", "two")]
        assert manifests[0]["training"]["steps"] == manifests[1]["training"]["steps"] == 18
        assert manifests[0]["training"]["loss"] == pytest.approx(manifests[1]["training"]["loss"], rel=1e-4)
        assert differences(*(tmp_path / run / "stages" / stage for run in ("one", "two"))) < apart
    # States are compared token by token, and each process has its own mean over tokens: nearly the same.
    start, alone, both = (
        flat(tmp_path / run / "stages" / stage) for run, stage in (("one", "02-slim"), ("one", "04-usual"), ("two", "04-usual"))
    )
    assert np.linalg.norm(both - alone) < 0.1 * np.linalg.norm(alone - start)
    assert not list((tmp_path / "two" / "stages").glob(".*"))


def test_tags_are_weighed_by_their_number_and_failures_are_told_once(tmp_path: Path, server: CommandServer) -> None:
    tiny.write_encoder(tmp_path / "encoder", **NO_DROPOUT)
    task = tmp_path / "task.yaml"
    task.write_text(yaml.safe_dump(tiny.write_kind(tmp_path / "data", "tags")), encoding="utf-8")
    options = [part for key, value in SETTINGS.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    command = ["finetune", "encoder", "--task", "task.yaml", "--epochs", "2", *options, "-o", "two"]
    done = server.run_together(command, tmp_path, 2)
    assert [outcome.code for outcome in done] == [0, 0], done[0].err[:2000]
    compress.finetune(tmp_path / "encoder", str(task), tmp_path / "one", epochs=2, **SETTINGS)
    assert differences(tmp_path / "one", tmp_path / "two") < 1e-4
    failed = server.run_together(["eval", "one", "--task", "task.yaml"], tmp_path, 2)
    assert failed[0].code != 0
    assert "".join(outcome.err for outcome in failed).count("eval runs in one process, and there are 2") == 1
