"""Settings of `export`, and those of tuning that it shares with `quantize`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from compress.settings.base import Positive, Settings


class TuneSettings(Settings):
    """What `export` and `quantize` measure to choose how the artifact is run."""

    runtime: Literal["onnxruntime", "openvino", "auto"] = Field(
        "onnxruntime", description="What serves the artifact; auto times both, and records which is faster for which batches."
    )
    tune: bool = Field(False, description="Time forms of the graph and options of the runtime, and keep the fastest.")
    batch_size: list[Positive] = Field([1], min_length=1, max_length=16, description="Batch sizes that are timed.")
    seq_len: list[Positive] = Field([16, 32, 128], min_length=1, max_length=16, description="Lengths in tokens that are timed.")
    threads: list[Positive] = Field([1], min_length=1, max_length=16, description="Thread counts that are timed.")


class ExportSettings(TuneSettings):
    """`export`: write a verified ONNX artifact."""

    attention: Literal["auto", "plain", "mha", "onnx"] = Field(
        "auto",
        description="plain: products and softmax; mha: ONNX Runtime's MultiHeadAttention; onnx: the standard operator (opset 23); "
        "auto: plain, or with --tune the fastest.",
    )
    opset: Literal[17, 20, 21, 23] = Field(20, description="Version of the standard operators.")
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto",
        description="fp32; fp16: a float16 graph for GPUs, logits in float32; bf16: an fp32 graph that OpenVINO computes in bf16; "
        "auto: an fp32 graph, in OpenVINO computed in bf16 where this processor has AMX.",
    )
    tolerance: float | None = Field(
        None,
        gt=0,
        description="Largest allowed difference of the logits from PyTorch's; by default 0.001, and of the largest logit 0.01 (fp16), "
        "0.05 (bf16).",
    )

    @model_validator(mode="after")
    def _that_fit_together(self) -> ExportSettings:
        if self.precision == "fp16" and (self.tune or self.runtime != "onnxruntime"):
            raise ValueError("precision fp16 is for ONNX Runtime on GPUs: it goes with neither tune nor another runtime")
        if self.precision == "bf16" and self.runtime == "onnxruntime":
            raise ValueError("ONNX Runtime computes no bf16 on CPUs: precision bf16 goes with runtime openvino or auto")
        if self.attention == "onnx" and self.opset < 23:
            raise ValueError("attention onnx needs opset 23")
        return self
