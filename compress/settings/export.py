"""Settings of `export`, and those of tuning that it shares with `quantize`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from compress.settings.base import HARDWARE, METHOD, AnyOf, Only, Positive, Settings

TIMED = AnyOf(Only("tune"), Only("runtime", "auto"))
Layout = Literal["compress", "sentence-transformers", "text-embeddings-inference", "transformers.js"]
Runtime = Literal["onnxruntime", "openvino", "auto"]


class TuneSettings(Settings):
    """What `export` and `quantize` time to choose how an artifact runs."""

    runtime: Annotated[Runtime, HARDWARE] = Field(
        "onnxruntime", description="Runtime that serves the artifact; auto times both and records which is faster for which batches."
    )
    tune: Annotated[bool, HARDWARE] = Field(False, description="Time variants of the graph and runtime options, and keep the fastest.")
    batch_size: Annotated[list[Positive], HARDWARE, TIMED] = Field([1], min_length=1, max_length=16, description="Batch sizes to time.")
    seq_len: Annotated[list[Positive], HARDWARE, TIMED] = Field(
        [16, 32, 128], min_length=1, max_length=16, description="Sequence lengths in tokens to time."
    )
    threads: Annotated[list[Positive], HARDWARE, TIMED] = Field([1], min_length=1, max_length=16, description="Numbers of threads to time.")


class ExportSettings(TuneSettings):
    """`export`: write a verified fp32 ONNX artifact."""

    attention: Annotated[Literal["auto", "plain", "blocks", "mha", "onnx"], METHOD] = Field(
        "auto",
        description="Attention in the graph: plain: matmuls and softmax; blocks: the same in parts, for long texts; mha: ONNX Runtime's "
        "MultiHeadAttention; onnx: the standard Attention operator (opset 23); auto: blocks for texts of 1024 tokens or more, else plain, "
        "or the fastest with --tune.",
    )
    opset: Annotated[Literal[17, 20, 21, 23], METHOD] = Field(20, description="Version of the standard ONNX operators.")
    precision: Annotated[Literal["auto", "fp32"], HARDWARE, Only("runtime", "openvino", "auto")] = Field(
        "auto", description="Precision in which OpenVINO computes the fp32 graph; auto: bf16 on processors with AMX, else fp32."
    )
    tolerance: Annotated[float | None, METHOD] = Field(
        None,
        gt=0,
        description="Largest allowed difference from PyTorch's logits. Default: 0.001; in bf16 0.05 of the largest logit.",
    )

    layout: Annotated[Layout, METHOD] = Field(
        "compress",
        description="Where the graph lies: compress: model.onnx; the others: in onnx/, where that client looks for it. With them MODEL may "
        "also be an artifact, such as an int8 one.",
    )
    token_embeddings: Annotated[bool, METHOD] = Field(
        False,
        description="Also compute the vectors of all tokens (output last_hidden_state) in an embedder that pools the first token only.",
    )

    @field_validator("precision", mode="before")
    @classmethod
    def _float_formats(cls, value: object) -> object:
        if value in ("fp16", "bf16"):
            raise ValueError(f"export writes fp32 graphs; use quantize with method {value}")
        return value

    @model_validator(mode="after")
    def _compatible(self) -> ExportSettings:
        if self.attention == "onnx" and self.opset < 23:
            raise ValueError("attention onnx needs opset 23")
        if self.layout != "compress" and self.runtime != "onnxruntime":
            raise ValueError(f"layout {self.layout} is for ONNX Runtime: leave runtime out")
        return self
