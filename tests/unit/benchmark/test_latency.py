"""The stage `bench`: interleaving, time limits, and what is told of them. No test here depends on a clock."""

from __future__ import annotations

import gc
import importlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.benchmark import statistics
from compress.benchmark.latency import (
    COLD,
    CONTROL,
    PADDED,
    Candidate,
    Cell,
    Work,
    _describe,
    _measure,
    _percentiles,
    candidates_of,
    padded,
    pinned,
    run,
    waterfall,
)
from compress.benchmark.microbenchmark import MIN_SPEEDUP_ROUNDS, WARM_UPS, measure_speedup, random_batch
from compress.benchmark.runners import ClockRunner, OrtCudaRunner, TokenizingRunner, TorchCudaRunner, openvino_forward
from compress.core import artifacts, files
from compress.core.errors import CompressError, ModelError, ResourceError, UsageError
from compress.data import resolve
from compress.data.task import Task
from compress.export import RUNTIME_HINTS, write_artifact
from compress.export.graph import build_graph
from compress.models.checkpoint import load_model
from compress.settings import BenchSettings
from compress.stage import Inputs
from tests import tiny

Maker = Callable[..., Path]
module = importlib.import_module("compress.benchmark.latency")
runners_module = importlib.import_module("compress.benchmark.runners")
WHERE = Cell(1, 4, 32).describe(32)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 100)


class Clock:
    """A clock that only runners move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(runners_module.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def runner(self, name: str, seconds: float, calls: list[str]) -> Any:
        """Return a forward function that takes `seconds`."""

        def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
            calls.append(name)
            self.now += seconds
            return np.zeros((1, 2))

        return forward


def measure(monkeypatch: pytest.MonkeyPatch, speeds: dict[str, float], **settings: Any) -> tuple[dict[str, np.ndarray], list[str]]:
    """Run the rounds of one cell; returns the times and the order of the calls."""
    calls: list[str] = []
    clock = Clock(monkeypatch)
    runners: dict[str, Any] = {name: ClockRunner(clock.runner(name, seconds, calls)) for name, seconds in speeds.items()}
    runners[CONTROL] = runners[next(iter(speeds))]
    work = Work({name: [{}] for name in runners}, 8)
    times = _measure(runners, work, BenchSettings(**settings), np.random.default_rng(0))
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
        _measure({"a": ClockRunner(forward)}, Work({"a": [{}]}, 4), BenchSettings(), np.random.default_rng(0))
    assert not any(states[WARM_UPS:])
    assert gc.isenabled()


def test_speedups_are_ratios_to_the_first_model_and_to_the_first_float_graph() -> None:
    models = [
        Candidate("torch", Path(), "pytorch", "fp32", 9),
        Candidate("int8", Path(), "onnxruntime", "int8", 9),
        Candidate("graph", Path(), "onnxruntime", "fp32", 9),
    ]
    drift = np.exp(np.random.default_rng(0).normal(0, 1, 40))
    times = {"torch": 6 * drift, "int8": 1 * drift, "graph": 2 * drift, CONTROL: 6 * drift}
    static: dict[str, Any] = {model.name: {"size_mb": 1.0, **COLD} for model in models}
    found = _describe(models, times, WHERE, static, BenchSettings())
    assert [entry["speedup"]["ratio"] for entry in found] == pytest.approx([1, 6, 3])
    assert [entry["speedup_vs_onnx"]["ratio"] for entry in found] == pytest.approx([1 / 3, 2, 1])
    assert {entry["speedup"]["vs"] for entry in found} == {"torch"}
    assert {entry["speedup_vs_onnx"]["vs"] for entry in found} == {"graph"}
    assert found[0]["throughput_per_s"] == pytest.approx(4 / np.median(times["torch"]))
    without = _describe(models[:2], times, WHERE, static, BenchSettings())
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
    ratio, interval = measure_speedup(clock.runner("before", 0.03, calls), clock.runner("after", 0.01, calls), {}, rounds=7)
    assert ratio == pytest.approx(3)
    assert interval == pytest.approx([3, 3])
    assert calls == ["before", "before", "after", "after"] * (7 + WARM_UPS)


def test_quick_speedup_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = Clock(monkeypatch)
    ratio, _ = measure_speedup(clock.runner("before", 3.0, calls), clock.runner("after", 1.0, calls), {})
    assert ratio == pytest.approx(3)
    assert len(calls) == 4 * (MIN_SPEEDUP_ROUNDS + WARM_UPS)


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
    files.write_json(folder / artifacts.MANIFEST, {"precision": precision, "runtime": RUNTIME_HINTS})
    return folder


def test_candidates_are_told_apart(checkpoint: Maker, tmp_path: Path) -> None:
    vocab = len(tiny.vocabulary())
    assert candidates_of("a", checkpoint(), BenchSettings()) == [Candidate("a", checkpoint(), "pytorch", "fp32", vocab)]
    folder = artifact_of(checkpoint(), tmp_path / "graph", "int8")
    assert candidates_of("b", folder, BenchSettings()) == [Candidate("b", folder, "onnxruntime", "int8", vocab)]
    (folder / artifacts.MANIFEST).unlink()
    assert candidates_of("b", folder, BenchSettings())[0].precision == "fp32"
    both = candidates_of("b", folder, BenchSettings(runtime=["auto", "openvino"], precision="bf16"))
    assert [(c.name, c.runtime, c.precision) for c in both] == [("b", "onnxruntime", "fp32"), ("b (openvino)", "openvino", "bf16")]
    with pytest.raises(UsageError, match="a is a checkpoint, which openvino does not run"):
        candidates_of("a", checkpoint(), BenchSettings(runtime=["openvino"]))


@pytest.mark.parametrize(
    ("routes", "runtime", "precision"),
    [
        (["openvino"], "openvino", "bf16"),
        (["onnxruntime"], "onnxruntime", "fp32"),
        (["onnxruntime", "openvino"], "onnxruntime+openvino", "fp32"),
        (["openvino", "onnxruntime"], "onnxruntime+openvino", "fp32"),
    ],
)
def test_auto_is_what_an_artifact_records(checkpoint: Maker, tmp_path: Path, routes: list[str], runtime: str, precision: str) -> None:
    folder = artifact_of(checkpoint(), tmp_path / "graph", "fp32")
    limits = [*range(4, 4 * len(routes), 4), None]
    recorded = [{"up_to": limit, "runtime": name} for limit, name in zip(limits, routes, strict=True)]
    hints = RUNTIME_HINTS | {"routes": recorded, "openvino": {"precision": "bf16"}}
    files.write_json(folder / artifacts.MANIFEST, {"precision": "fp32", "runtime": hints})
    found = candidates_of("a", folder, BenchSettings())[0]
    assert (found.runtime, found.precision) == (runtime, precision)
    assert candidates_of("a", folder, BenchSettings(runtime=["onnxruntime"]))[0].runtime == "onnxruntime"
    assert candidates_of("a", folder, BenchSettings(runtime=["openvino"], precision="fp32"))[0].precision == "fp32"
    assert candidates_of("a", folder, BenchSettings(device="cuda"))[0].runtime == "onnxruntime"
    if "openvino" in routes:
        pytest.importorskip("openvino")
    entry = bench({"a": folder})["results"][0]
    assert entry["runtime"] == runtime
    assert ("OpenVINO CPU" in entry["runs_on"]) == ("openvino" in routes)


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

    def fake(runners: dict[str, Any], work: Work, settings: BenchSettings, rng: Any, label: str) -> dict[str, np.ndarray]:
        batch = work.batches["a"][0]["input_ids"]
        timed.append((int(label.split(",")[0].removeprefix("threads ")), *batch.shape))
        torch.set_num_threads(timed[-1][0])
        return {name: np.full(5, 0.001) for name in runners}

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
    entry = document["results"][0]
    assert 20 < entry["peak_rss_mb"] < 300
    assert entry["load_ms"] > 0
    assert entry["first_run_ms"] > 0
    assert entry["runs_on"] == ["CPUExecutionProvider"]


def test_memory_that_cannot_be_measured_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(
        module.subprocess, "run", lambda *args, **kwargs: SimpleNamespace(returncode=1, stderr="trace\nlast line\n", stdout="")
    )
    assert module._cold_start(Candidate("model", tmp_path, "pytorch", "fp32", 9), "cpu") == COLD
    assert "last line" in capsys.readouterr().err


def test_cuda_without_a_gpu_fails_before_any_time_is_spent(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "_cold_start", lambda *args: pytest.fail("measured"))
    with pytest.raises(ResourceError, match="--device cuda"):
        bench({"a": checkpoint()}, device="cuda", memory=True)


def test_a_damaged_model_fails_before_any_time_is_spent(checkpoint: Maker, own_checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = own_checkpoint()
    (broken / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(module, "_cold_start", lambda *args: pytest.fail("measured"))
    monkeypatch.setattr(module, "_measure", lambda *args: pytest.fail("measured"))
    with pytest.raises(ModelError, match="damaged"):
        bench({"a": checkpoint(), "b": broken}, memory=True)


def test_the_tasks_own_lengths(checkpoint: Maker, tiny_task: dict[str, Any], tmp_path: Path) -> None:
    """Each model gets the same texts by its own tokenizer; padding them to the limit is timed beside."""
    folder = artifact_of(checkpoint(), tmp_path / "graph", "fp32")
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


def test_padding_adds_masked_tokens_only() -> None:
    batch = random_batch(np.random.default_rng(0), 50, 2, 3)
    wide = padded(batch, 5, 7)
    assert {array.shape for array in wide.values()} == {(2, 5)}
    assert (wide["input_ids"][:, 3:] == 7).all()
    assert not wide["attention_mask"][:, 3:].any()
    assert padded(batch, 2, 7)["input_ids"].shape == (2, 3)
    assert PADDED != CONTROL


def test_a_waterfall_multiplies_to_the_total() -> None:
    names = {"torch": ("pytorch", "fp32"), "slow": ("pytorch", "fp32"), "graph": ("onnxruntime", "fp32"), "int8": ("onnxruntime", "int8")}
    models = [Candidate(name, Path(), *kind, 9) for name, kind in names.items()]
    drift = np.exp(np.random.default_rng(0).normal(0, 1, 30))
    times = {name: seconds * drift for name, seconds in {"torch": 12.0, "slow": 15.0, "graph": 6.0, "int8": 2.0}.items()}
    found = waterfall(models, times)
    assert found is not None
    assert [(step["from"], step["to"], step["what"]) for step in found["steps"]] == [
        ("torch", "graph", "runtime"), ("graph", "int8", "int8"),
    ]  # fmt: skip
    assert np.prod([step["ratio"] for step in found["steps"]]) == pytest.approx(found["total"]["ratio"]) == pytest.approx(6)
    assert waterfall(models[:1], times) is None


def test_tokenizing_is_part_of_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    def encode(texts: Any) -> Any:
        clock.now += 2.0
        return texts

    runner = TokenizingRunner(encode, ClockRunner(clock.runner("a", 3.0, [])))
    assert runner.seconds(runner.prepare("texts")) == pytest.approx(5.0)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_pinning_ends_with_its_block() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
    with pinned(None):
        assert os.sched_getaffinity(0) == before


class FakeCuda:
    """Stands in for `torch` on a machine without a GPU: events that tell how long the stream was busy."""

    def __init__(self) -> None:
        self.busy, self.order = 0.0, []
        self.cuda = self

    def device(self, name: str) -> torch.device:
        assert name == "cuda"
        return torch.device("cpu")

    def synchronize(self) -> None:
        self.order.append("synchronize")

    def inference_mode(self) -> Any:
        return torch.inference_mode()

    def Event(self, enable_timing: bool) -> Any:
        assert enable_timing
        parent = self

        class Event:
            def record(self) -> None:
                self.at = parent.busy
                parent.order.append("record")

            def synchronize(self) -> None:
                parent.order.append("event synchronized")

            def elapsed_time(self, other: Any) -> float:
                return 1e3 * (other.at - self.at)

        return Event()


def test_pytorch_on_a_gpu_is_timed_between_events() -> None:
    fake, model = FakeCuda(), tiny.make_model()

    def forward(**tensors: Any) -> None:
        assert set(tensors) == {"input_ids", "attention_mask", "token_type_ids"}
        fake.busy += 0.25
        fake.order.append("model")

    runner = TorchCudaRunner(type("Model", (), {"config": model.config, "__call__": staticmethod(forward)})(), fake)
    prepared = runner.prepare(random_batch(np.random.default_rng(0), 50, 1, 4))
    assert runner.seconds(prepared) == pytest.approx(0.25)
    assert fake.order == ["synchronize", "record", "model", "record", "event synchronized"]


def test_onnx_runtime_on_a_gpu_is_timed_through_its_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, order = Clock(monkeypatch), []

    class Binding:
        def bind_ortvalue_input(self, name: str, value: Any) -> None:
            order.append(f"in {name} {value}")

        def bind_output(self, name: str, device: str) -> None:
            order.append(f"out {name} {device}")

        def synchronize_inputs(self) -> None:
            order.append("inputs there")

        def synchronize_outputs(self) -> None:
            clock.now += 0.5
            order.append("outputs there")

    class Session:
        def get_inputs(self) -> Any:
            return [type("Entry", (), {"name": "input_ids"})()]

        def get_outputs(self) -> Any:
            return [type("Entry", (), {"name": "logits"})()]

        def io_binding(self) -> Binding:
            return Binding()

        def run_with_iobinding(self, binding: Any) -> None:
            clock.now += 0.25
            order.append("run")

    runner = OrtCudaRunner(Session(), lambda array: f"on device {array.shape}")
    prepared = runner.prepare(random_batch(np.random.default_rng(0), 50, 1, 4))
    assert runner.seconds(prepared) == pytest.approx(0.75)  # not only until the call returns
    assert order == ["in input_ids on device (1, 4)", "out logits cuda", "inputs there", "run", "outputs there"]


@pytest.mark.parametrize(
    ("settings", "error"),
    [({"device": "tensorrt"}, ResourceError), ({"precision": "fp16"}, UsageError), ({"device": "cuda"}, ResourceError)],
    ids=str,
)
def test_what_this_machine_cannot_run(checkpoint: Maker, settings: dict[str, Any], error: type[CompressError]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine can")
    with pytest.raises(error):
        bench({"a": checkpoint()}, **settings)


def test_openvino_needs_an_artifact_and_a_cpu(checkpoint: Maker) -> None:
    with pytest.raises(UsageError, match="a checkpoint"):
        openvino_forward(checkpoint(), "fp32", "cpu", 1)
    with pytest.raises(UsageError, match="CPU only"):
        openvino_forward(checkpoint(), "fp32", "cuda", 1)


def test_openvino_agrees_with_onnx_runtime(checkpoint: Maker, family: str, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from compress.inference.artifact import OnnxModel

    folder = artifact_of(checkpoint(family), tmp_path / "graph", "fp32")
    batch = tiny.encoded(family).batch([0, 3])
    np.testing.assert_allclose(openvino_forward(folder, "fp32", "cpu", 1)(batch), OnnxModel(folder).logits(batch), atol=1e-4)


def test_sessions_that_are_timed_stop_spinning_when_a_run_ends(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from compress.inference import artifact

    folder, seen = artifact_of(checkpoint(), tmp_path / "graph", "fp32"), []
    real = artifact.open_session

    def spy(graph: Any, threads: Any, device: str, hints: dict[str, Any]) -> Any:
        seen.append(hints)
        return real(graph, threads, device, hints)

    monkeypatch.setattr(artifact, "open_session", spy)
    runner, _ = runners_module.open_runner(folder, "onnxruntime", "fp32", "cpu", 2)
    runner.seconds(tiny.encoded().batch([0, 3]))
    (hints,) = seen
    assert hints["session_config"]["session.force_spinning_stop"] == "1"
    assert {key: hints[key] for key in RUNTIME_HINTS} == RUNTIME_HINTS  # beside what the artifact records
