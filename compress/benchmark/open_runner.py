"""Opens a model in a runtime, ready to be timed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compress.benchmark.runners import ArrayBatch, ClockRunner, OrtCudaRunner, Runner, TorchCudaRunner
from compress.core import artifacts
from compress.core.errors import UsageError
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward
from compress.inference.forward import open_forward
from compress.inference.onnx_session import without_lingering_threads
from compress.inference.openvino_session import openvino_forward
from compress.inference.routes import ONNXRUNTIME, OPENVINO
from compress.models.layout import is_graph

ROUTED = f"{ONNXRUNTIME}+{OPENVINO}"  # an artifact that runs each batch in the faster runtime


def open_runner(
    folder: Path, runtime: str, precision: str, device: str, threads: int, check: bool = True, pooling: str | None = None
) -> tuple[Runner, list[str]]:
    """Open a model in a runtime; returns its runner and what executes it (execution providers, device).

    Args:
        folder: of the model.
        runtime: that computes it.
        precision: of its floats.
        device: where to compute.
        threads: of one inference.
        check: compare an artifact's outputs with those that it carries.
        pooling: of an embedder whose folder names none.

    Raises:
        ModelError: an artifact computes wrong outputs here.
        ResourceError: the runtime or the device is unavailable; nothing falls back silently.
        UsageError: the runtime does not support the precision on the device.
    """
    recorded = (artifacts.read_manifest(folder) or {}).get("runtime", {})
    if runtime == OPENVINO:
        floats = recorded.get("openvino", {}).get("precision", "fp32") if precision == "int8" else precision
        if not is_graph(folder):
            return ClockRunner(openvino_forward(folder, floats, device, threads)), ["OpenVINO CPU"]
        return ClockRunner(OnnxModel(folder, threads, device, check=check).open_runtime(OPENVINO, floats)), ["OpenVINO CPU"]
    if runtime == ROUTED:
        artifact = OnnxModel(folder, threads, hints=without_lingering_threads(recorded), check=check)
        return ClockRunner(artifact.logits), [*artifact.session.get_providers(), "OpenVINO CPU"]
    if runtime == ONNXRUNTIME:
        if device == "cpu":
            artifact = OnnxModel(folder, threads, hints=without_lingering_threads(recorded), check=check)
            return ClockRunner(artifact.open_runtime(ONNXRUNTIME)), list(artifact.session.get_providers())
        from onnxruntime import OrtValue

        session = OnnxModel(folder, threads, device, check=check).session
        return OrtCudaRunner(session, lambda array: OrtValue.ortvalue_from_numpy(array, "cuda", 0)), list(session.get_providers())
    if device == "cpu":
        return ClockRunner(torch_cpu_forward(folder, precision, threads, pooling)), ["PyTorch CPU"]
    return open_torch_cuda(folder, precision, pooling), ["PyTorch CUDA"]


def torch_cpu_forward(folder: Path, precision: str, threads: int, pooling: str | None = None) -> Forward:
    """Open a checkpoint in PyTorch on the CPU; the number of threads is set around each call."""
    if precision == "fp16":
        raise UsageError("PyTorch has no fast fp16 on CPUs", "use --precision bf16, or --device cuda")
    import torch

    forward = open_forward(folder, target="vector" if pooling else None, pooling=pooling, rounded=False)

    def limited(batch: ArrayBatch) -> np.ndarray:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return forward(batch)

    return limited


def open_torch_cuda(folder: Path, precision: str, pooling: str | None = None) -> TorchCudaRunner:
    """Open a checkpoint in PyTorch on the GPU; fp16 and bf16 convert the weights."""
    from compress.models.checkpoint import load_model
    from compress.models.device import pick_device

    where = pick_device("cuda")
    import torch

    kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    model = load_model(folder, target="vector" if pooling else None, pooling=pooling)
    return TorchCudaRunner(model.to(where, kinds[precision]), torch)
