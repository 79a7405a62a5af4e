"""Runners: a model in a runtime that prepares a batch, runs it once and returns the seconds.

On a CPU the clock is read before and after the call. On a GPU calls return before the work is done: PyTorch is timed with CUDA
events, ONNX Runtime with IO binding, with inputs and outputs on the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from compress.core import artifacts
from compress.core.errors import UsageError
from compress.data.examples import Examples
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward
from compress.inference.forward import open_forward
from compress.inference.onnx_session import without_lingering_threads
from compress.inference.openvino_session import openvino_forward
from compress.inference.routes import ONNXRUNTIME, OPENVINO
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession, IOBinding, OrtValue

ArrayBatch = dict[str, np.ndarray]
ROUTED = f"{ONNXRUNTIME}+{OPENVINO}"  # an artifact that runs each batch in the faster runtime


class Runner(Protocol):
    """A model to be timed."""

    def prepare(self, batch: Any) -> Any:
        """Return a padded batch on the device of the model; this is not timed."""
        ...

    def seconds(self, prepared: Any) -> float:
        """Run once and return the seconds."""
        ...


class ClockRunner:
    """Times a synchronous forward function by the clock."""

    def __init__(self, forward: Callable[[ArrayBatch], object]) -> None:
        self.forward = forward

    def prepare(self, batch: ArrayBatch) -> ArrayBatch:
        """Return the batch unchanged."""
        return batch

    def seconds(self, prepared: ArrayBatch) -> float:
        """Run once and return the seconds."""
        start = time.perf_counter()
        self.forward(prepared)
        return time.perf_counter() - start


class TokenizingRunner:
    """Times tokenization too: encodes texts and passes the batch to another runner."""

    def __init__(self, encode: Callable[[Examples], ArrayBatch], runner: Runner) -> None:
        self.encode, self.runner = encode, runner

    def prepare(self, batch: Examples) -> Examples:
        """Return the texts unchanged."""
        return batch

    def seconds(self, prepared: Examples) -> float:
        """Encode and run once, and return the seconds of both."""
        start = time.perf_counter()
        self.runner.seconds(self.runner.prepare(self.encode(prepared)))
        return time.perf_counter() - start


class TorchCudaRunner:
    """PyTorch on a GPU, timed with CUDA events."""

    def __init__(
        self, model: TransformersModel, torch: ModuleType, context: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        self.model, self.torch, self.context = model, torch, context

    def prepare(self, batch: ArrayBatch) -> dict[str, torch.Tensor]:
        """Move the batch to the GPU."""
        from compress.models.device import to_tensors

        tensors = to_tensors(batch, self.model, self.torch.device("cuda"))
        self.torch.cuda.synchronize()
        return tensors

    def seconds(self, prepared: dict[str, torch.Tensor]) -> float:
        """Run once and return the seconds between two events on the stream."""
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        with self.torch.inference_mode(), self.context():
            start.record()
            self.model(**prepared)
            end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3


class OrtCudaRunner:
    """ONNX Runtime on a GPU with IO binding, so that copies between host and device are not timed."""

    def __init__(self, session: InferenceSession, value_of: Callable[[np.ndarray], OrtValue]) -> None:
        self.session, self.value_of = session, value_of

    def prepare(self, batch: ArrayBatch) -> IOBinding:
        """Copy the batch to the GPU and bind inputs and outputs there."""
        binding = self.session.io_binding()
        for entry in self.session.get_inputs():
            binding.bind_ortvalue_input(entry.name, self.value_of(batch[entry.name]))
        for entry in self.session.get_outputs():
            binding.bind_output(entry.name, "cuda")
        binding.synchronize_inputs()
        return binding

    def seconds(self, prepared: IOBinding) -> float:
        """Run once and return the seconds until the outputs are ready."""
        start = time.perf_counter()
        self.session.run_with_iobinding(prepared)
        prepared.synchronize_outputs()
        return time.perf_counter() - start


def open_runner(folder: Path, runtime: str, precision: str, device: str, threads: int) -> tuple[Runner, list[str]]:
    """Open a model in a runtime; returns its runner and what executes it (execution providers, device).

    Raises:
        ResourceError: the runtime or the device is unavailable; nothing falls back silently.
        UsageError: the runtime does not support the precision on the device.
    """
    recorded = (artifacts.read_manifest(folder) or {}).get("runtime", {})
    if runtime == OPENVINO:
        floats = recorded.get("openvino", {}).get("precision", "fp32") if precision == "int8" else precision
        return ClockRunner(openvino_forward(folder, floats, device, threads)), ["OpenVINO CPU"]
    if runtime == ROUTED:
        artifact = OnnxModel(folder, threads, hints=without_lingering_threads(recorded))
        return ClockRunner(artifact.logits), [*artifact.session.get_providers(), "OpenVINO CPU"]
    if runtime == ONNXRUNTIME:
        if device == "cpu":
            artifact = OnnxModel(folder, threads, hints=without_lingering_threads(recorded))
            return ClockRunner(artifact.open_runtime(ONNXRUNTIME)), list(artifact.session.get_providers())
        from onnxruntime import OrtValue

        session = OnnxModel(folder, threads, device).session
        return OrtCudaRunner(session, lambda array: OrtValue.ortvalue_from_numpy(array, "cuda", 0)), list(session.get_providers())
    if device == "cpu":
        return ClockRunner(torch_cpu_forward(folder, precision, threads)), ["PyTorch CPU"]
    return open_torch_cuda(folder, precision), ["PyTorch CUDA"]


def torch_cpu_forward(folder: Path, precision: str, threads: int) -> Forward:
    """Open a checkpoint in PyTorch on the CPU; the number of threads is set around each call."""
    if precision == "fp16":
        raise UsageError("PyTorch has no fast fp16 on CPUs", "use --precision bf16, or --device cuda")
    import torch

    forward = open_forward(folder)

    def limited(batch: ArrayBatch) -> np.ndarray:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return forward(batch)

    return limited


def open_torch_cuda(folder: Path, precision: str) -> TorchCudaRunner:
    """Open a checkpoint in PyTorch on the GPU; fp16 and bf16 convert the weights."""
    from compress.models.checkpoint import load_model
    from compress.models.device import pick_device

    where = pick_device("cuda")
    import torch

    kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return TorchCudaRunner(load_model(folder).to(where, kinds[precision]), torch)
