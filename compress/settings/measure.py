"""Settings of `eval` and `bench`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compress.settings.base import CHECK, HARDWARE, METHOD, TASK, Device, Only, Positive, Settings, Split

BenchRuntime = Literal["auto", "pytorch", "onnxruntime", "openvino"]


class EvalSettings(Settings):
    """`eval`: the task's metrics with confidence intervals, every model paired with the first."""

    split: Annotated[Split, TASK] = Field("auto", description="Split to evaluate on; auto: test if the task has one, else validation.")
    batch_size: Annotated[int, HARDWARE] = Field(32, ge=1, le=4096, description="Examples per batch.")
    device: Annotated[Device, HARDWARE] = Field("cpu", description="Where to compute.")
    check: Annotated[bool, HARDWARE] = Field(True, description=CHECK)


class BenchSettings(Settings):
    """`bench`: latency, throughput, memory and size, interleaved."""

    batch_size: Annotated[list[Positive], METHOD] = Field([1], min_length=1, max_length=16, description="Batch sizes.")
    seq_len: Annotated[list[Positive], METHOD] = Field([32, 128], min_length=1, max_length=16, description="Sequence lengths in tokens.")
    threads: Annotated[list[Positive], HARDWARE] = Field([1], min_length=1, max_length=16, description="Numbers of threads.")
    rounds: Annotated[int, METHOD] = Field(100, ge=5, le=10_000, description="Interleaved rounds per cell.")
    seconds: Annotated[float, METHOD] = Field(20.0, gt=0, le=3600, description="Time limit per cell in seconds; it may cut rounds short.")
    memory: Annotated[bool, METHOD] = Field(True, description="Measure each model's cold start and peak memory in a separate process.")
    task_lengths: Annotated[bool, METHOD] = Field(False, description="Also time the task's texts, at their own lengths.")
    tokenize: Annotated[bool, METHOD, Only("task_lengths", option="--task")] = Field(
        False, description="Also time tokenization of the task's texts."
    )
    corpus: Annotated[bool, METHOD, Only("task_lengths", option="--task")] = Field(
        False,
        description="Also measure texts per second over the task's corpus (without one, its texts), with tokenization.",
    )
    runtime: Annotated[list[BenchRuntime], HARDWARE] = Field(
        ["auto"], min_length=1, max_length=4, description="Runtimes; auto: PyTorch for checkpoints, ONNX Runtime for artifacts."
    )
    precision: Annotated[Literal["fp32", "bf16", "fp16"], HARDWARE] = Field(
        "fp32", description="Precision of checkpoints in PyTorch and of fp32 graphs in OpenVINO."
    )
    pin: Annotated[bool, HARDWARE] = Field(False, description="Pin the process to as many cores as threads.")
    device: Annotated[Literal["cpu", "cuda", "tensorrt"], HARDWARE] = Field("cpu", description="Where to compute.")
    check: Annotated[bool, HARDWARE] = Field(True, description=CHECK)
