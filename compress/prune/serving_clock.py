"""How a pruned model will be served, and the clock that times models so."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
import torch

from compress.benchmark.microbenchmark import MAX_ROUNDS, measure_speedup, median_seconds, random_batch
from compress.benchmark.timing_worker import TimingWorker
from compress.core import scratch
from compress.core.errors import ResourceError, UsageError
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.inference.batches import Forward
from compress.inference.forward import torch_forward
from compress.inference.openvino_session import has_openvino
from compress.models.layout import GRAPH
from compress.models.types import TransformersModel
from compress.quantize import dynamic_int8_graph
from compress.quantize.instruction_sets import needs_seven_bits


@dataclass(frozen=True)
class Serving:
    """How the model will be served, and so how models are timed; `seq_len` is in tokens."""

    runtime: str = "onnxruntime"
    precision: str = "fp32"
    batch_size: int = 1
    seq_len: int = 32
    threads: int = 1

    def describe(self) -> str:
        """Return a description for messages."""
        name = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "pytorch": "PyTorch"}[self.runtime]
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{name} {self.precision}, batch {self.batch_size}, length {self.seq_len}, {threads}"

    def write(self, model: TransformersModel, folder: Path) -> Path:
        """Write the graph that would be served into a folder, and return the folder. PyTorch serves no graph."""
        folder.mkdir(parents=True, exist_ok=True)
        graph = build_graph(model)
        onnx.save(dynamic_int8_graph(graph, needs_seven_bits()) if self.precision == "int8" else graph, str(folder / GRAPH))
        return folder


def check_serving(serving: Serving) -> None:
    """Refuse a precision or a runtime that is unavailable.

    Raises:
        UsageError: the runtime does not compute in this precision on CPUs.
        ResourceError: OpenVINO is not installed.
    """
    precisions = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16"), "pytorch": ("fp32", "bf16")}[serving.runtime]
    if serving.runtime == "openvino" and not has_openvino():
        raise ResourceError("OpenVINO is not installed", "pip install 'bert-compress[openvino]'")
    if serving.precision not in precisions:
        raise UsageError(
            f"{serving.runtime} runs no {serving.precision} on CPUs here",
            f"its precisions: {', '.join(precisions)}; or choose another --runtime",
        )


class ServingClock:
    """Times a model as it is served, and other models against it.

    Graphs are timed in a separate process, in alternation; PyTorch models in this one. A graph is on the disk only until it has
    been opened.

    Args:
        model: the reference.
        serving: how models are served.
        seed: of the random tokens.
    """

    def __init__(self, model: TransformersModel, serving: Serving, seed: int = 0) -> None:
        self.model, self.serving, self.seed = model, serving, seed
        self._scratch = scratch.folder_of(self)
        self._worker = TimingWorker(
            runtime=serving.runtime, precision=serving.precision, threads=serving.threads, hints=RUNTIME_HINTS,
            batch_size=serving.batch_size, seq_len=serving.seq_len, vocab_size=model.config.vocab_size, seed=seed,
        )  # fmt: skip

    @property
    def seconds(self) -> float:
        """The reference's median seconds of a batch, measured once.

        Raises:
            ResourceError: the runtime is not installed, or the timing process ended.
        """
        return self._seconds

    @cached_property
    def _seconds(self) -> float:
        if self.serving.runtime == "pytorch":
            return median_seconds(self._forward, self._batch)
        seconds = self._worker.seconds(self._folder)
        self._opened()
        return seconds

    def speedup(self, model: TransformersModel, rounds: int = MAX_ROUNDS) -> tuple[float, list[float]]:
        """Return how much faster another model is than the reference, with the 95 % interval.

        Args:
            model: the other model.
            rounds: how often the two are timed in alternation.

        Raises:
            ResourceError: as above.
        """
        if self.serving.runtime == "pytorch":
            return measure_speedup(self._forward, _torch_forward(model, self.serving), self._batch, rounds)
        with scratch.folder() as other:
            result = self._worker.speedup(self._folder, self.serving.write(model, other), rounds)
        self._opened()
        return result

    def _opened(self) -> None:
        (self._folder / GRAPH).unlink(missing_ok=True)  # the process holds it open, and a killed run must not leave it behind

    @cached_property
    def _folder(self) -> Path:
        return self.serving.write(self.model.to("cpu"), self._scratch / "first")

    @property
    def _forward(self) -> Forward:
        return _torch_forward(self.model.to("cpu"), self.serving)  # a refit may have moved it

    @cached_property
    def _batch(self) -> dict[str, np.ndarray]:
        draw = np.random.default_rng(self.seed)
        return random_batch(draw, self.model.config.vocab_size, self.serving.batch_size, self.serving.seq_len)


def _torch_forward(model: TransformersModel, serving: Serving) -> Forward:
    forward = torch_forward(model.eval())

    def limited(batch: dict[str, np.ndarray]) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(serving.threads)
        try:
            with torch.autocast("cpu", torch.bfloat16, enabled=serving.precision == "bf16"):
                return forward(batch)
        finally:
            torch.set_num_threads(before)

    return limited
