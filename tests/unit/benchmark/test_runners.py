"""Runners: what is timed, and that it all is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.benchmark import runners as runners_module
from compress.benchmark.microbenchmark import random_batch
from compress.benchmark.runners import ClockRunner, OrtCudaRunner, TokenizingRunner, TorchCudaRunner
from compress.core.errors import UsageError
from compress.inference.artifact import OnnxModel
from compress.inference.openvino_session import openvino_forward
from tests import tiny
from tests.unit.benchmark.fake_clock import FakeClock

Maker = Callable[..., Path]


def test_tokenizing_is_part_of_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock(monkeypatch, runners_module)

    def encode(texts: Any) -> Any:
        clock.now += 2.0
        return texts

    runner = TokenizingRunner(encode, ClockRunner(clock.forward("a", 3.0, [])))
    assert runner.seconds(runner.prepare("texts")) == pytest.approx(5.0)


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
    clock, order = FakeClock(monkeypatch, runners_module), []

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


def test_openvino_needs_an_artifact_and_a_cpu(checkpoint: Maker) -> None:
    with pytest.raises(UsageError, match="a checkpoint"):
        openvino_forward(checkpoint(), "fp32", "cpu", 1)
    with pytest.raises(UsageError, match="CPU only"):
        openvino_forward(checkpoint(), "fp32", "cuda", 1)


def test_openvino_agrees_with_onnx_runtime(checkpoint: Maker, family: str, artifact: Maker) -> None:
    pytest.importorskip("openvino")
    folder = artifact(checkpoint(family))
    batch = tiny.encoded(family).batch([0, 3])
    np.testing.assert_allclose(openvino_forward(folder, "fp32", "cpu", 1)(batch), OnnxModel(folder).logits(batch), atol=1e-4)
