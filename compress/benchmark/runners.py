"""Runners: a model in a runtime that prepares a batch, runs it once and returns the seconds.

On a CPU the clock is read before and after the call. On a GPU calls return before the work is done: PyTorch is timed with CUDA
events, ONNX Runtime with IO binding, with inputs and outputs on the device.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession, IOBinding, OrtValue

    from compress.data.examples import Examples
    from compress.models.types import TransformersModel

ArrayBatch = dict[str, np.ndarray]


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
