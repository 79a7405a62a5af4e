"""Settings of `eval` and `bench`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from compress.settings.base import Device, Positive, Settings, Split


class EvalSettings(Settings):
    """`eval`: the task's metrics with intervals, every model paired with the first."""

    split: Split = Field("auto", description="auto: test where the task has one, else validation.")
    batch_size: int = Field(32, ge=1, le=4096, description="Examples per batch.")
    device: Device = Field("cpu", description="Where to compute.")


class BenchSettings(Settings):
    """`bench`: latency, throughput, memory and size, interleaved."""

    batch_size: list[Positive] = Field([1], min_length=1, max_length=16, description="Batch sizes.")
    seq_len: list[Positive] = Field([32, 128], min_length=1, max_length=16, description="Lengths in tokens.")
    threads: list[Positive] = Field([1], min_length=1, max_length=16, description="Thread counts.")
    rounds: int = Field(100, ge=5, le=10_000, description="Interleaved rounds per cell.")
    seconds: float = Field(20.0, gt=0, le=3600, description="Time limit per cell; fewer rounds are run if it is hit.")
    memory: bool = Field(True, description="Measure each model's cold start and peak memory in a process of its own.")
    task_lengths: bool = Field(False, description="Time the task's own texts too, at their own lengths.")
    tokenize: bool = Field(False, description="Time tokenization too (on the task's own texts).")
    runtime: list[Literal["auto", "pytorch", "onnxruntime", "openvino"]] = Field(
        ["auto"], min_length=1, max_length=4, description="Runtimes; auto: PyTorch for checkpoints, ONNX Runtime for artifacts."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="Of checkpoints in PyTorch, and of fp32 graphs in OpenVINO.")
    pin: bool = Field(False, description="Keep the process on as many cores as threads.")
    device: Literal["cpu", "cuda", "tensorrt"] = Field("cpu", description="Where to compute.")

    @model_validator(mode="after")
    def _texts_for_tokens(self) -> BenchSettings:
        if self.tokenize and not self.task_lengths:
            raise ValueError("tokenize needs the task's own texts: set task_lengths too (--task T on the command line)")
        return self
