"""The comparison with transformers' Trainer, on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import training_speed
import yaml
from training_speed import arguments, page, prepared, train

from compress import api
from compress.data.task import Task
from tests import tiny


def order(way: str, folder: Path, task: dict[str, Any]) -> dict[str, Any]:
    """Return one training's order."""
    tiny.write_encoder(folder / "encoder")
    return {"way": way, "seed": 0, "model": str(folder / "encoder"), "epochs": 1, "folder": str(folder / way), "task": task}


@pytest.mark.parametrize(("way", "steps"), [("compress", 2), ("trainer", 8), ("trainer-matched", 2)])
def test_each_way_trains_the_same_encoder_on_the_same_texts(way: str, steps: int, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    found = train(order(way, tmp_path, tiny_task))
    assert found["steps"] == steps  # 60 examples, 32 or 8 at a time
    assert found["train_seconds"] > 0
    result = api.evaluate([tmp_path / way], tiny_task)["results"][0]
    assert 0 <= result["metrics"]["accuracy"] <= 1


def test_only_the_training_examples_are_limited(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_task), encoding="utf-8")
    task = Task(prepared(arguments([str(path), "--limit", "20", "-o", str(tmp_path)])))
    assert [len(task.split(split)) for split in task.available] == [20, 24, 24]
    assert list(task.label_names) == tiny.LABELS


def test_the_page_tells_means_and_spread() -> None:
    results = [
        {
            "way": way,
            "seed": seed,
            "split": "test",
            "n": 9,
            "steps": 4,
            "precision": "fp32",
            "train_seconds": 10.0 + seed,
            "process_seconds": 20.0,
        }
        | {"metrics": {"accuracy": 0.5 + 0.1 * seed}}
        for seed in (0, 2)
        for way in training_speed.WAYS
    ]
    document = {
        "model": "m",
        "task": "t",
        "examples": 60,
        "epochs": 1,
        "machine": {"cpu": "c"},
        "main_metric": "accuracy",
        "results": results,
    }
    shown = page(document)
    assert shown.count("11.0 ± 1.4") == 3
    assert "60.00 ± 14.14" in shown
    assert "(n = 9)" in shown
