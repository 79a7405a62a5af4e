"""What needs a GPU, on a machine that has one: `make gpu-check`. Not part of the default run.

Models are tiny and random: this checks that the paths work and agree with the CPU, not how fast they are.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import compress
from compress.benchmark.latency import run as bench
from compress.benchmark.open_runner import open_runner
from compress.inference.artifact import OnnxModel
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.settings import BenchSettings
from compress.stage import Inputs
from tests import tiny

Maker = Callable[..., Path]
DEMANDED = bool(os.environ.get("COMPRESS_REQUIRE_GPU"))


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    if not torch.cuda.is_available():
        if DEMANDED:
            pytest.fail("PyTorch sees no GPU on this machine")
        pytest.skip("no GPU")


def needs_provider(name: str) -> None:
    """Skip where this ONNX Runtime was built without a provider."""
    import onnxruntime

    if name not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {name}")
    if name == "TensorrtExecutionProvider":  # which is listed where its libraries are not
        try:
            ctypes.CDLL("libnvinfer.so.10")
        except OSError:
            pytest.skip("the TensorRT libraries are not installed")


@pytest.fixture
def graph(checkpoint: Maker, family: str, tmp_path: Path) -> Path:
    """The exported tiny classifier of a family."""
    compress.export(checkpoint(family), tmp_path / "graph")
    return tmp_path / "graph"


def test_pytorch_agrees_with_the_cpu(checkpoint: Maker, family: str) -> None:
    model, batch = load_model(checkpoint(family)), tiny.encoded(family).batch(range(6))
    expected = torch_forward(model)(batch)
    found = torch_forward(model.to("cuda"), torch.device("cuda"))(batch)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_fine_tuning_pruning_and_distilling_on_a_gpu(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    encoder = tiny.write_encoder(tmp_path / "encoder")
    common: dict[str, Any] = {"epochs": 6, "batch_size": 8, "lr": 3e-3, "precision": "fp32", "device": "cuda"}
    compress.finetune(encoder, tiny_task, tmp_path / "teacher", **common)
    compress.prune(tmp_path / "teacher", tiny_task, tmp_path / "slim", target_flops=0.5, device="cuda")
    compress.distill(tmp_path / "teacher", tmp_path / "slim", tiny_task, tmp_path / "student", **common)
    found = compress.evaluate([tmp_path / "teacher", tmp_path / "student"], tiny_task, device="cuda")
    assert all(entry["metrics"]["accuracy"] > 0.5 for entry in found["results"])


PRUNED: list[dict[str, Any]] = [
    *({"method": method, "target_flops": 0.5} for method in ("fisher", "obs", "taylor", "magnitude", "random")),
    {"method": "fisher", "target_flops": 0.5, "uniform": True},
    {"method": "fisher", "target_flops": 0.4, "recover_epochs": 1, "recover": "between"},
    {"method": "layers", "target_flops": 0.7, "recover_epochs": 1},
    {"method": "hidden", "target_flops": 0.7, "recover_epochs": 1},
    {"method": "vocab"},
    *({"method": "sparse", "pattern": pattern} for pattern in ("unstructured", "2:4")),
]


def named(settings: dict[str, Any]) -> str:
    """The name of a test of these settings."""
    return "-".join(str(value) for value in settings.values())


@pytest.mark.parametrize("settings", PRUNED, ids=named)
def test_every_method_prunes_on_a_gpu(checkpoint: Maker, tiny_task: dict[str, Any], settings: dict[str, Any], tmp_path: Path) -> None:
    options = {} if settings["method"] == "vocab" else {"calib_samples": 48}
    found = compress.prune(checkpoint(), tiny_task, tmp_path / "slim", device="cuda", **options, **settings)
    assert found["params"] > 0
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("target", ["labels", "value", "tags", "span"])
def test_every_kind_prunes_and_distils_on_a_gpu(target: Any, tmp_path: Path) -> None:
    task = tiny.write_kind(tmp_path / "task", target)
    compress.finetune(tiny.write_encoder(tmp_path / "encoder"), task, tmp_path / "teacher", epochs=1, batch_size=8, device="cuda")
    compress.prune(tmp_path / "teacher", task, tmp_path / "slim", target_flops=0.5, device="cuda")
    found = compress.distill(tmp_path / "teacher", tmp_path / "slim", task, tmp_path / "student", epochs=1, augment=1, device="cuda")
    assert found["training"]["steps"] > 0


@pytest.mark.parametrize("student", ["layers=2", "layers=2,hidden=16", "vocab=60", "lstm=12,embedding=16,ffn=8"])
def test_every_student_learns_on_a_gpu(checkpoint: Maker, tiny_task: dict[str, Any], student: str, tmp_path: Path) -> None:
    method = ["logits"] if "vocab" in student or "lstm" in student else ["logits", "hidden"]
    options: dict[str, Any] = {"method": method, "epochs": 1, "batch_size": 8, "device": "cuda"}
    found = compress.distill(checkpoint(), student, tiny_task, tmp_path / "student", **options)
    assert found["training"]["steps"] > 0


LOSSES = ["logits", "dkd", "hidden", "nmse", "attention", "relations", "gram", "pkd", "cka", "cofi", "theseus", "tinybert"]


@pytest.mark.parametrize("method", LOSSES)
def test_every_loss_is_learned_from_on_a_gpu(checkpoint: Maker, tiny_task: dict[str, Any], method: str, tmp_path: Path) -> None:
    methods = [method] if method in ("logits", "dkd", "cofi", "theseus", "tinybert") else ["logits", method]
    found = compress.distill(
        checkpoint(), "layers=2", tiny_task, tmp_path / "student", method=methods, epochs=1, batch_size=8, device="cuda"
    )
    assert found["training"]["steps"] > 0


@pytest.mark.parametrize("mode", ["frozen", "lora", "adapter"])
def test_every_mode_trains_on_a_gpu(tiny_task: dict[str, Any], mode: str, tmp_path: Path) -> None:
    encoder = tiny.write_encoder(tmp_path / "encoder")
    found = compress.finetune(encoder, tiny_task, tmp_path / "out", mode=mode, epochs=1, batch_size=8, device="cuda")
    assert found["training"]["steps"] > 0


@pytest.mark.parametrize("method", ["fisher", "activations", "plain"])
def test_factorizing_and_sharing_on_a_gpu(checkpoint: Maker, tiny_task: dict[str, Any], method: str, tmp_path: Path) -> None:
    compress.factorize(checkpoint(), tiny_task, tmp_path / "low", method=method, ratio=0.5, device="cuda")
    compress.share(checkpoint(), tiny_task, tmp_path / "shared", layers=2, groups="auto", device="cuda")
    assert {"low", "shared"} <= {path.name for path in tmp_path.iterdir()}


def test_onnx_runtime_agrees_with_the_cpu(graph: Path, family: str) -> None:
    needs_provider("CUDAExecutionProvider")
    batch = tiny.encoded(family).batch(range(6))
    on_gpu = OnnxModel(graph, device="cuda")
    np.testing.assert_allclose(on_gpu.logits(batch), OnnxModel(graph).logits(batch), atol=1e-3)
    assert on_gpu.session.get_providers()[0] == "CUDAExecutionProvider"


@pytest.mark.parametrize("attention", ["plain", "mha"])
@pytest.mark.parametrize(("device", "provider"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")])
def test_a_float16_graph_agrees_with_the_cpu(
    checkpoint: Maker, graph: Path, family: str, attention: str, device: str, provider: str, tmp_path: Path
) -> None:
    needs_provider(provider)
    if device == "tensorrt" and attention == "mha":
        pytest.skip("TensorRT leaves com.microsoft operators to CUDA")
    compress.export(checkpoint(family), tmp_path / "float", attention=attention)
    compress.quantize(tmp_path / "float", None, tmp_path / "half", method="fp16")
    batch = tiny.encoded(family).batch(range(6))
    expected = OnnxModel(graph).logits(batch)
    found = OnnxModel(tmp_path / "half", device=device).logits(batch)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_pytorch_is_timed(checkpoint: Maker, precision: str) -> None:
    runner, runs_on = open_runner(checkpoint(), "pytorch", precision, "cuda", 1)
    prepared = runner.prepare(tiny.encoded().batch([0, 1]))
    assert all(0 < runner.seconds(prepared) < 10 for _ in range(3))
    assert runs_on == ["PyTorch CUDA"]


@pytest.mark.parametrize(("device", "provider"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")])
def test_the_benchmark_reports_what_really_ran(checkpoint: Maker, graph: Path, family: str, device: Any, provider: str) -> None:
    needs_provider(provider)
    settings = BenchSettings(rounds=5, memory=False, seq_len=[8], device=device)
    document = bench(Inputs({"a": checkpoint(family), "b": graph}), settings, Path())
    assert document["results"][1]["runs_on"][0] == provider
    assert all(entry["latency_ms"]["p50"] > 0 for entry in document["results"])


def test_the_machine_names_its_gpus() -> None:
    from compress.core import machine

    assert machine.gpus()
