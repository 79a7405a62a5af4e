"""The stage `bench`: interleaving, time limits, and what is told of them. No test here depends on a clock."""

from __future__ import annotations

import gc
import importlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress import fs
from compress.errors import ModelError, ResourceError
from compress.export import RUNTIME_HINTS, write_artifact
from compress.export.graph import build_graph
from compress.measure import statistics
from compress.measure.latency import (
    CONTROL,
    WARM_UPS,
    Candidate,
    _describe,
    _measure,
    _percentiles,
    candidate_of,
    quick_speedup,
    random_batch,
    run,
)
from compress.model.checkpoint import load_model
from compress.settings import BenchSettings
from compress.stage import Inputs
from tests import tiny

Maker = Callable[..., Path]
module = importlib.import_module("compress.measure.latency")


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 100)


class Clock:
    """A clock that only runners move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def runner(self, name: str, seconds: float, calls: list[str]) -> Any:
        """Return a forward function that takes `seconds`."""

        def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
            calls.append(name)
            self.now += seconds
            return np.zeros((1, 2))

        return forward


def candidates(*names: str) -> list[Candidate]:
    """Return candidates that are never opened."""
    return [Candidate(name, Path(name), "onnxruntime", "fp32", 100) for name in names]


def measure(monkeypatch: pytest.MonkeyPatch, speeds: dict[str, float], **settings: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    """Run the rounds of one cell; returns the times and the order of the calls."""
    calls: list[str] = []
    clock = Clock(monkeypatch)
    forwards = {name: clock.runner(name, seconds, calls) for name, seconds in speeds.items()}
    times = _measure(candidates(*speeds), forwards, (1, 2, 8), BenchSettings(**settings), np.random.default_rng(0))
    return times, calls


def test_every_round_runs_every_model_once_after_a_warming_call(monkeypatch: pytest.MonkeyPatch) -> None:
    times, calls = measure(monkeypatch, {"a": 0.003, "b": 0.001}, rounds=20, seconds=3600.0)
    runners = 3  # a, b and the control, which is a again
    assert calls[: WARM_UPS * runners] == ["a"] * WARM_UPS + ["b"] * WARM_UPS + ["a"] * WARM_UPS
    rounds = np.array(calls[WARM_UPS * runners :]).reshape(20, runners, 2)
    assert (rounds[:, :, 0] == rounds[:, :, 1]).all()  # the warming call and the timed one
    assert all(Counter(turn) == {"a": 2, "b": 1} for turn in rounds[:, :, 0].tolist())
    assert len({tuple(turn) for turn in rounds[:, :, 0].tolist()}) == 3  # shuffled
    assert {name: len(values) for name, values in times.items()} == {"a": 20, "b": 20, CONTROL: 20}
    np.testing.assert_allclose(times["a"], 0.003)
    np.testing.assert_allclose(times["b"], 0.001)


@pytest.mark.parametrize(("seconds", "expected"), [(0.001, 5), (0.01, 5), (0.35, 18), (3600.0, 40)])
def test_the_time_limit_stops_after_five_rounds_at_least(monkeypatch: pytest.MonkeyPatch, seconds: float, expected: int) -> None:
    times, _ = measure(monkeypatch, {"a": 0.005}, rounds=40, seconds=seconds)
    assert len(times["a"]) == expected


def test_garbage_collection_is_off_while_timing_and_on_again_after(monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[bool] = []

    def forward(batch: Any) -> np.ndarray:
        states.append(gc.isenabled())
        if len(states) > 20:
            raise RuntimeError("stop here")
        return np.zeros((1, 2))

    with pytest.raises(RuntimeError, match="stop here"):
        _measure(candidates("a"), {"a": forward}, (1, 1, 4), BenchSettings(), np.random.default_rng(0))
    assert not any(states[2 * WARM_UPS :])
    assert gc.isenabled()


def test_speedups_are_ratios_to_the_first_model_and_to_the_first_float_graph() -> None:
    models = [
        Candidate("torch", Path(), "pytorch", "fp32", 9),
        Candidate("int8", Path(), "onnxruntime", "int8", 9),
        Candidate("graph", Path(), "onnxruntime", "fp32", 9),
    ]
    drift = np.exp(np.random.default_rng(0).normal(0, 1, 40))
    times = {"torch": 6 * drift, "int8": 1 * drift, "graph": 2 * drift, CONTROL: 6 * drift}
    static = {model.name: {"size_mb": 1.0, "peak_rss_mb": None} for model in models}
    found = _describe(models, times, (1, 4, 32), static, BenchSettings())
    assert [entry["speedup"]["ratio"] for entry in found] == pytest.approx([1, 6, 3])
    assert [entry["speedup_vs_onnx"]["ratio"] for entry in found] == pytest.approx([1 / 3, 2, 1])
    assert {entry["speedup"]["vs"] for entry in found} == {"torch"}
    assert {entry["speedup_vs_onnx"]["vs"] for entry in found} == {"graph"}
    assert found[0]["throughput_per_s"] == pytest.approx(4 / np.median(times["torch"]))
    without = _describe(models[:2], times, (1, 4, 32), static, BenchSettings())
    assert [entry["speedup_vs_onnx"] for entry in without] == [None, None]


def test_a_tail_needs_samples() -> None:
    seconds = np.arange(1, 102) / 1000
    assert _percentiles(seconds) == {
        "p50": pytest.approx(51),
        "p90": pytest.approx(91),
        "p99": pytest.approx(100),
        "mean": pytest.approx(51),
    }
    assert _percentiles(seconds[:99])["p99"] is None


def test_quick_speedup_interleaves(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = Clock(monkeypatch)
    ratio, interval = quick_speedup(clock.runner("before", 0.03, calls), clock.runner("after", 0.01, calls), {}, rounds=7)
    assert ratio == pytest.approx(3)
    assert interval == pytest.approx([3, 3])
    assert calls == ["before", "before", "after", "after"] * (7 + WARM_UPS)


@pytest.mark.parametrize(("vocab", "batch", "length"), [(105, 3, 7), (2, 1, 1), (30522, 2, 128)])
def test_random_batches_are_full_rows_of_words(vocab: int, batch: int, length: int) -> None:
    found = random_batch(np.random.default_rng(0), vocab, batch, length)
    assert all(array.shape == (batch, length) and array.dtype == np.int64 for array in found.values())
    assert (found["attention_mask"] == 1).all()
    assert (found["token_type_ids"] == 0).all()
    assert found["input_ids"].min() >= min(1000, vocab // 2)  # never the padding id
    assert found["input_ids"].max() < vocab


def artifact_of(source: Path, folder: Path, precision: str) -> Path:
    """Write an artifact with its manifest."""
    folder.mkdir()
    write_artifact(build_graph(load_model(source)), source, folder)
    fs.write_json(folder / fs.MANIFEST, {"precision": precision, "runtime": RUNTIME_HINTS})
    return folder


def test_candidates_are_told_apart(checkpoint: Maker, tmp_path: Path) -> None:
    vocab = len(tiny.vocabulary())
    assert candidate_of("a", checkpoint()) == Candidate("a", checkpoint(), "pytorch", "fp32", vocab)
    folder = artifact_of(checkpoint(), tmp_path / "graph", "int8")
    assert candidate_of("b", folder) == Candidate("b", folder, "onnxruntime", "int8", vocab)
    (folder / fs.MANIFEST).unlink()
    assert candidate_of("b", folder).precision == "fp32"


def bench(sources: dict[str, Path], **settings: Any) -> dict[str, Any]:
    """Run the stage, quickly."""
    return run(Inputs(sources), BenchSettings(**{"rounds": 5, "memory": False, "seq_len": [8], **settings}), Path())


def test_checkpoints_and_artifacts_are_timed(checkpoint: Maker, family: str, tmp_path: Path) -> None:
    folder = artifact_of(checkpoint(family), tmp_path / "graph", "fp32")
    document = bench({"a": checkpoint(family), "b": folder})
    assert all(entry["rounds"] == 5 and entry["latency_ms"]["p50"] > 0 and entry["peak_rss_mb"] is None for entry in document["results"])
    sizes = {entry["model"]: entry["size_mb"] for entry in document["results"]}
    assert sizes == {
        "a": (checkpoint(family) / "model.safetensors").stat().st_size / 1e6,
        "b": (folder / "model.onnx").stat().st_size / 1e6,
    }
    assert set(document["metrics"]) == {"a", "b"}
    json.dumps(document)


def test_every_cell_of_the_grid_is_timed(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    folder = artifact_of(checkpoint(), tmp_path / "graph", "fp32")
    timed: list[Any] = []

    def fake(models: list[Candidate], forwards: dict[str, Any], cell: Any, settings: BenchSettings, rng: Any) -> dict[str, np.ndarray]:
        timed.append(cell)
        torch.set_num_threads(cell[0])
        return {name: np.full(5, 0.001) for name in [*forwards, CONTROL]}

    monkeypatch.setattr(module, "_measure", fake)
    document = bench({"a": checkpoint(), "b": folder}, batch_size=[1, 2], threads=[1, 2], seq_len=[4, 8])
    assert torch.get_num_threads() == before
    assert timed == [(threads, batch, length) for threads in (1, 2) for batch in (1, 2) for length in (4, 8)]
    assert [(entry["threads"], entry["batch_size"], entry["seq_len"]) for entry in document["control"]] == timed
    cells = [(entry["model"], entry["threads"], entry["batch_size"], entry["seq_len"]) for entry in document["results"]]
    assert cells == [(model, *cell) for cell in timed for model in "ab"]


def test_lengths_beyond_the_model_are_cut_with_a_warning(checkpoint: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    document = bench({"a": checkpoint()}, seq_len=[4, 1000, 2000])
    assert [entry["seq_len"] for entry in document["results"]] == [4, tiny.POSITIONS]
    assert f"timed at {tiny.POSITIONS}" in capsys.readouterr().err


def test_peak_memory_is_that_of_a_process_of_its_own(checkpoint: Maker, tmp_path: Path) -> None:
    """An artifact opens without PyTorch: tens of megabytes, not hundreds."""
    folder = artifact_of(checkpoint(), tmp_path / "graph", "fp32")
    document = bench({"a": folder}, memory=True)
    assert 20 < document["results"][0]["peak_rss_mb"] < 300


def test_memory_that_cannot_be_measured_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(
        module.subprocess, "run", lambda *args, **kwargs: SimpleNamespace(returncode=1, stderr="trace\nlast line\n", stdout="")
    )
    assert module._peak_memory(tmp_path / "model", "cpu") is None
    assert "last line" in capsys.readouterr().err


def test_cuda_without_a_gpu_fails_before_any_time_is_spent(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "_peak_memory", lambda *args: pytest.fail("measured"))
    with pytest.raises(ResourceError, match="--device cuda"):
        bench({"a": checkpoint()}, device="cuda", memory=True)


def test_a_damaged_model_fails_before_any_time_is_spent(checkpoint: Maker, own_checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = own_checkpoint()
    (broken / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(module, "_peak_memory", lambda *args: pytest.fail("measured"))
    monkeypatch.setattr(module, "_measure", lambda *args: pytest.fail("measured"))
    with pytest.raises(ModelError, match="damaged"):
        bench({"a": checkpoint(), "b": broken}, memory=True)
