"""A stage that is killed while it trains resumes, by the path of the command line."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compress
from compress.core.errors import Diverged
from compress.models.task_loss import task_loss
from compress.training import loop, resume
from tests import tiny

Maker = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("in_this_process")
SETTINGS = {"precision": "fp32", "device": "cpu", "batch_size": 8, "lr": 2e-3, "epochs": 2}
STEPS = 16  # 60 examples, 8 at a time, twice


class Killed(BaseException):
    """Nothing catches it."""


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the state after every step."""
    monkeypatch.setattr(resume, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(resume, "MAX_SHARE", 1e9)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Count the steps that are begun; the process dies where `kill_at` says."""
    count: dict[str, Any] = {"begun": 0, "kill_at": None}
    original = loop.to_tensors

    def counted(*args: Any) -> Any:
        if count["begun"] == count["kill_at"]:
            raise Killed
        count["begun"] += 1
        return original(*args)

    monkeypatch.setattr(loop, "to_tensors", counted)
    return count


def left(folder: Path) -> list[str]:
    """Return the hidden files next to the outputs."""
    return sorted(path.name.partition("-")[0] for path in folder.glob(".*"))


@pytest.mark.parametrize(("verb", "more"), [("finetune", {}), ("distill", {}), ("distill", {"method": "theseus"})])
def test_a_killed_stage_goes_on(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, steps: dict[str, Any], verb: str, more: dict[str, Any]
) -> None:
    def make(name: str) -> Path:
        arguments = [checkpoint()] if verb == "finetune" else [checkpoint(), "layers=2"]
        getattr(compress, verb)(*arguments, tiny_task, tmp_path / name, **SETTINGS, **more)
        return tmp_path / name

    whole = make("whole")
    assert left(tmp_path) == []
    steps |= {"begun": 0, "kill_at": 11}
    with pytest.raises(Killed):
        make("stopped")
    assert not (tmp_path / "stopped").exists()
    assert left(tmp_path) == [".stopped.resume"]
    steps |= {"begun": 0, "kill_at": None}
    stopped = make("stopped")
    assert steps["begun"] == STEPS - 11
    assert left(tmp_path) == []
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_other_settings_start_from_the_beginning(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, steps: dict[str, Any]
) -> None:
    steps["kill_at"] = 3
    with pytest.raises(Killed):
        compress.finetune(checkpoint(), tiny_task, tmp_path / "out", **SETTINGS)
    steps |= {"begun": 0, "kill_at": None}
    compress.finetune(checkpoint(), tiny_task, tmp_path / "out", **{**SETTINGS, "lr": 1e-3})
    assert steps["begun"] == STEPS
    assert left(tmp_path) == []


def test_the_recovery_of_prune_goes_on(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, steps: dict[str, Any]) -> None:
    def prune(name: str) -> Path:
        options = {"target_flops": 0.5, "steps": 1, "calib_samples": 24, "device": "cpu", "recover_epochs": 3, "recover_lr": 1e-3}
        options |= {"refit_epochs": 0}  # whose steps would be counted, too: refits are made again
        compress.prune(checkpoint(), tiny_task, tmp_path / name, **options)
        return tmp_path / name / "model.safetensors"

    whole = prune("whole").read_bytes()
    total = steps["begun"]
    steps |= {"begun": 0, "kill_at": total - 1}
    with pytest.raises(Killed):
        prune("stopped")
    steps |= {"begun": 0, "kill_at": None}
    assert prune("stopped").read_bytes() == whole
    assert steps["begun"] == 1


def test_every_mode_goes_on(tiny_task: dict[str, Any], tmp_path: Path, steps: dict[str, Any]) -> None:
    source = tiny.write_encoder(tmp_path / "encoder")
    for mode in ("lora", "adapter", "frozen"):
        settings = {**SETTINGS, "mode": mode}
        compress.finetune(source, tiny_task, tmp_path / f"{mode}-whole", **settings)
        steps |= {"begun": 0, "kill_at": 9}
        with pytest.raises(Killed):
            compress.finetune(source, tiny_task, tmp_path / mode, **settings)
        steps |= {"begun": 0, "kill_at": None}
        compress.finetune(source, tiny_task, tmp_path / mode, **settings)
        assert steps["begun"] == STEPS - 9
        assert (tmp_path / mode / "model.safetensors").read_bytes() == (tmp_path / f"{mode}-whole" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("mode", ["full", "lora"])
def test_a_diverged_training_keeps_its_best_epoch(
    tiny_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    source = tiny.write_encoder(tmp_path / "encoder")
    settings = {**SETTINGS, "mode": mode, "epochs": 3}
    begun = 0

    def diverging_loss(*args: Any, **options: Any) -> Any:
        nonlocal begun
        begun += 1
        return task_loss(*args, **options) * (math.nan if begun == 12 else 1)

    monkeypatch.setattr(importlib.import_module("compress.training.label_loss"), "task_loss", diverging_loss)
    with pytest.raises(Diverged, match=r"in epoch 2, step 12; the best epoch before is kept in .*out\.diverged") as caught:
        compress.finetune(source, tiny_task, tmp_path / "out", **settings)
    assert caught.value.hint == "lower the learning rate (it was 0.002): --lr 0.0007"
    assert not (tmp_path / "out").exists()
    assert left(tmp_path) == []
    found = compress.evaluate([tmp_path / "out.diverged"], tiny_task, split="validation")
    assert found["results"][0]["metrics"]["accuracy"] > 0
    assert compress.load_model(tmp_path / "out.diverged").training is False
    begun = -100  # another learning rate does not diverge
    compress.finetune(source, tiny_task, tmp_path / "out", **{**settings, "lr": 7e-4})


def test_a_folder_of_somebody_else_is_not_written_over(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    (tmp_path / "out.diverged").mkdir()
    (tmp_path / "out.diverged" / "notes.txt").write_text("mine")
    begun = 0

    def diverging_loss(*args: Any, **options: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun == 12:
            raise Diverged("gone")
        return task_loss(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("compress.training.label_loss"), "task_loss", diverging_loss)
        with pytest.raises(Diverged, match=r"^gone$"):
            compress.finetune(checkpoint(), tiny_task, tmp_path / "out", **SETTINGS)
    assert [path.name for path in (tmp_path / "out.diverged").iterdir()] == ["notes.txt"]
