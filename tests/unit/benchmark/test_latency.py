"""The stage `bench`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.benchmark.latency import run
from compress.core.errors import ModelError, ResourceError, UsageError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.settings import BenchSettings
from compress.stage import Inputs

Maker = Callable[..., Path]
latency = importlib.import_module("compress.benchmark.latency")
pytestmark = pytest.mark.usefixtures("few_resamples")


def bench(sources: dict[str, Path], **settings: Any) -> dict[str, Any]:
    """Run the stage, quickly."""
    return run(Inputs(sources), BenchSettings(**{"rounds": 5, "memory": False, "seq_len": [8], **settings}), Path())


def test_checkpoints_and_artifacts_are_timed(checkpoint: Maker, family: str, artifact: Maker) -> None:
    folder = artifact(checkpoint(family))
    document = bench({"a": checkpoint(family), "b": folder})
    assert all(entry["rounds"] == 5 and entry["latency_ms"]["p50"] > 0 and entry["peak_rss_mb"] is None for entry in document["results"])
    sizes = {entry["model"]: entry["size_mb"] for entry in document["results"]}
    assert sizes == {
        "a": (checkpoint(family) / "model.safetensors").stat().st_size / 1e6,
        "b": (folder / "model.onnx").stat().st_size / 1e6,
    }
    assert set(document["metrics"]) == {"a", "b"}
    json.dumps(document)


def test_every_cell_of_the_grid_is_timed(checkpoint: Maker, artifact: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    folder = artifact(checkpoint())
    timed: list[Any] = []

    def fake(runners: dict[str, Any], batches: dict[str, Any], *limits: Any) -> dict[str, np.ndarray]:
        runners["a"].seconds(batches["a"][0])
        timed.append((torch.get_num_threads(), *batches["a"][0]["input_ids"].shape))
        return {name: np.full(5, 0.001) for name in runners}

    monkeypatch.setattr(latency, "interleaved", fake)
    document = bench({"a": checkpoint(), "b": folder}, batch_size=[1, 2], threads=[1, 2], seq_len=[4, 8])
    assert torch.get_num_threads() == before
    assert timed == [(threads, batch, length) for threads in (1, 2) for batch in (1, 2) for length in (4, 8)]
    assert [(entry["threads"], entry["batch_size"], entry["seq_len"]) for entry in document["control"]] == timed
    cells = [(entry["model"], entry["threads"], entry["batch_size"], entry["seq_len"]) for entry in document["results"]]
    assert cells == [(model, *cell) for cell in timed for model in "ab"]


def test_peak_memory_is_that_of_a_process_of_its_own(checkpoint: Maker, artifact: Maker) -> None:
    """An artifact opens without PyTorch: tens of megabytes, not hundreds."""
    folder = artifact(checkpoint())
    document = bench({"a": folder}, memory=True)
    entry = document["results"][0]
    assert 20 < entry["peak_rss_mb"] < 300
    assert entry["load_ms"] > 0
    assert entry["first_run_ms"] > 0
    assert entry["runs_on"] == ["CPUExecutionProvider"]


def test_cuda_without_a_gpu_fails_before_any_time_is_spent(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(latency, "static_facts", lambda *args: pytest.fail("measured"))
    with pytest.raises(ResourceError, match="--device cuda"):
        bench({"a": checkpoint()}, device="cuda", memory=True)


def test_a_damaged_model_fails_before_any_time_is_spent(checkpoint: Maker, own_checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = own_checkpoint()
    (broken / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(latency, "static_facts", lambda *args: pytest.fail("measured"))
    monkeypatch.setattr(latency, "interleaved", lambda *args: pytest.fail("measured"))
    with pytest.raises(ModelError, match="damaged"):
        bench({"a": checkpoint(), "b": broken}, memory=True)


def test_the_tasks_own_lengths(checkpoint: Maker, tiny_task: dict[str, Any], artifact: Maker) -> None:
    """Each model gets the same texts by its own tokenizer; padding them to the limit is timed, too."""
    folder = artifact(checkpoint())
    settings = BenchSettings(rounds=5, memory=False, seq_len=[8], task_lengths=True, batch_size=[2])
    document = run(Inputs({"a": checkpoint(), "b": folder}, 0, Task(resolve(tiny_task))), settings, Path())
    own = [entry for entry in document["results"] if entry["lengths"] == "task"]
    assert [entry["model"] for entry in own] == ["a", "b"]
    lengths = [len(text.split()) for (text,) in Task(resolve(tiny_task)).split("test").texts]
    assert min(lengths) + 2 <= own[0]["seq_len"] <= max(lengths) + 2
    assert own[0]["seq_len"] == own[1]["seq_len"]
    control = next(entry for entry in document["control"] if entry["lengths"] == "task")
    assert control["padding"]["ratio"] > 0
    with pytest.raises(UsageError, match="needs a task"):
        run(Inputs({"a": checkpoint()}), settings, Path())


def test_tokenization_is_timed_on_demand(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    settings = BenchSettings(rounds=5, memory=False, seq_len=[8], task_lengths=True, tokenize=True)
    document = run(Inputs({"a": checkpoint()}, 0, Task(resolve(tiny_task))), settings, Path())
    assert [(entry["lengths"], entry["tokenized"]) for entry in document["results"]] == [("fixed", False), ("task", True)]
    with pytest.raises(ValueError, match="task_lengths"):
        BenchSettings(tokenize=True)
