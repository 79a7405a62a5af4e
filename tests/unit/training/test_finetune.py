"""The stage `finetune` on the tiny task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compress import training
from compress.core.errors import DataError, ResourceError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.models.checkpoint import load_model
from compress.models.head import model_labels
from compress.models.model_shape import count_params
from compress.settings import FinetuneSettings
from compress.stage import Inputs
from tests import tiny

Maker = Callable[..., Path]


def finetune(source: Path, document: dict[str, Any], output: Path, seed: int = 0, **settings: Any) -> dict[str, Any]:
    """Run the stage."""
    output.mkdir()
    options = FinetuneSettings(**{"precision": "fp32", "device": "cpu", "batch_size": 8, "lr": 2e-3, "epochs": 1, **settings})
    return training.run(Inputs({"model": source}, seed, Task(resolve(document))), options, output)


def test_every_family_is_fine_tuned(tiny_task: dict[str, Any], family: str, tmp_path: Path) -> None:
    source = tiny.write_encoder(tmp_path / "encoder", family)
    result = finetune(source, tiny_task, tmp_path / "out")
    model = load_model(tmp_path / "out")
    assert model_labels(model) == tiny.LABELS
    assert result["params"] == count_params(model)
    assert result["metrics"]["validation"] == {"n": 24, "accuracy": result["training"]["score"]}


def test_an_encoder_learns_the_task(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    source = tiny.write_encoder(tmp_path / "encoder")
    result = finetune(source, tiny_task, tmp_path / "out", epochs=8)
    assert result["metrics"]["validation"]["accuracy"] >= 0.6  # chance is 1/3


def test_the_new_head_depends_on_the_seed_alone(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    source = tiny.write_encoder(tmp_path / "encoder")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(ord(name))
        finetune(source, tiny_task, tmp_path / name, seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_overlapping_splits_give_a_warning(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking = {**tiny_task, "test": tiny_task["train"]}
    finetune(checkpoint(), leaking, tmp_path / "out")
    assert "60 of 60 test examples are also training examples" in capsys.readouterr().err


def test_disjoint_splits_give_no_warning(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(checkpoint(), tiny_task, tmp_path / "out")
    assert capsys.readouterr().err == ""


def test_a_task_without_training_data(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    document = {key: value for key, value in tiny_task.items() if key != "train"}
    with pytest.raises(DataError, match="no train split"):
        finetune(checkpoint(), document, tmp_path / "out")


def test_cuda_without_a_gpu_fails_before_any_work(tiny_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="--device cuda"):
        finetune(tmp_path / "nowhere", tiny_task, tmp_path / "out", device="cuda")


def test_the_first_metric_selects_the_best_epoch(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = finetune(checkpoint(), {**tiny_task, "metrics": ["macro_f1", "accuracy"]}, tmp_path / "out")
    assert set(result["metrics"]["validation"]) == {"n", "macro_f1", "accuracy"}


def test_a_sample_of_the_training_split(tmp_path: Path) -> None:
    model, task = tiny.write_encoder(tmp_path / "encoder"), tiny.write_task(tmp_path / "task", 60, 12, 0)
    assert finetune(model, task, tmp_path / "all")["training"]["steps"] == 8
    assert finetune(model, task, tmp_path / "sample", max_examples=20)["training"]["steps"] == 3
