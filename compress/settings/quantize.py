"""Settings of `quantize`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.settings.base import CALIBRATION, HARDWARE, METHOD, TARGET, UNLABELED, Only, Positive
from compress.settings.export import Runtime, TuneSettings

INT8 = Only("method", "auto", "dynamic", "static", "smooth")
CALIBRATES = Only("method", "auto", "static", "smooth")


class QuantizeSettings(TuneSettings):
    """`quantize`: int8 weights and activations; or int4 weights, fp16 or bf16."""

    runtime: Annotated[Runtime, HARDWARE, INT8] = Field(
        "onnxruntime", description="Runtime that serves the artifact; auto times both and records which is faster for which batches."
    )
    tune: Annotated[bool, HARDWARE, INT8] = Field(
        False, description="Time variants of the graph and runtime options, and keep the fastest."
    )
    method: Annotated[Literal["auto", "dynamic", "static", "smooth", "int4", "fp16", "bf16"], METHOD] = Field(
        "auto",
        description="int8: dynamic: activation ranges per batch; static: calibrated ranges; smooth: SmoothQuant, then static; auto: the "
        "faster of dynamic and static that keeps the accuracy, with sensitive matmuls in float if necessary (dynamic without data). "
        "int4: weights only, smallest, slower than int8. fp16: for GPUs. bf16: for OpenVINO.",
    )
    max_drop: Annotated[float | None, TARGET] = Field(
        None, ge=0, le=100, description="Accuracy budget in points: fail (exit code 6) if validation loses more."
    )
    calib_method: Annotated[Literal["minmax", "percentile", "mse", "entropy"], CALIBRATION, CALIBRATES] = Field(
        "minmax", description="How ranges are computed from the calibration activations."
    )
    calib_samples: Annotated[Positive, CALIBRATION, CALIBRATES] = Field(512, description="Training examples to calibrate on.")
    unlabeled: Annotated[str | None, CALIBRATION, CALIBRATES] = Field(
        None, description=f"Unlabeled texts to calibrate on instead: {UNLABELED}"
    )
    smooth_alpha: Annotated[float, METHOD, Only("method", "smooth")] = Field(
        0.5, ge=0, le=1, description="Share of the activation outliers that moves into the weights."
    )
    target: Annotated[
        Literal["auto", "amx", "vnni", "avx2", "arm64", "cuda", "tensorrt"],
        HARDWARE,
        Only("method", "auto", "dynamic", "static", "smooth", "fp16"),
    ] = Field(
        "auto",
        description="Hardware that runs the model; auto: this processor. avx2: 7-bit weights; arm64, cuda, tensorrt: signed activations.",
    )
    report: Annotated[bool, METHOD] = Field(False, description="Print each matmul's error, input range and share of clipped values.")

    @model_validator(mode="after")
    def _compatible(self) -> QuantizeSettings:
        if self.runtime == "openvino" and self.method == "dynamic":
            raise ValueError("OpenVINO runs dynamic int8 several times slower than ONNX Runtime: use method static, smooth or auto")
        if self.method == "fp16" and self.target not in ("auto", "cuda", "tensorrt"):
            raise ValueError(f"target {self.target} goes with int8: an fp16 graph is the same for every processor")
        if self.target in ("cuda", "tensorrt") and (self.tune or self.runtime != "onnxruntime"):
            raise ValueError(f"tune and runtime are measured on this processor: they do not go with target {self.target}")
        return self
