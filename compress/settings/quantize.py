"""Settings of `quantize`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from compress.settings.base import Positive
from compress.settings.export import TuneSettings


class QuantizeSettings(TuneSettings):
    """`quantize`: int8 weights and activations; or int4 weights, or half precision."""

    method: Literal["auto", "dynamic", "static", "smooth", "int4", "fp16", "bf16"] = Field(
        "auto",
        description="int8: dynamic (ranges of activations by batch), static (calibrated), smooth (SmoothQuant, then static), "
        "auto (the fastest of the first two that keeps the accuracy, some products in float where need be; no data: dynamic). "
        "int4: the smallest, slower than int8. fp16: for GPUs. bf16: for OpenVINO.",
    )
    max_drop: float | None = Field(None, ge=0, le=100, description="Fail (exit 6) if validation loses more points than this.")
    calib_method: Literal["minmax", "percentile", "mse", "entropy"] = Field("minmax", description="How ranges come from what was seen.")
    calib_samples: Positive = Field(512, description="Training examples to calibrate on.")
    unlabeled: str | None = Field(
        None, description="Texts without labels to calibrate on instead: .txt, or a table with the task's columns."
    )
    smooth_alpha: float = Field(0.5, ge=0, le=1, description="How much of the activations' outliers smooth moves into the weights.")
    target: Literal["auto", "amx", "vnni", "avx2", "arm64", "cuda", "tensorrt"] = Field(
        "auto",
        description="What to make it for; auto: this processor. avx2: 7-bit weights; arm64, cuda, tensorrt: signed activations.",
    )
    report: bool = Field(False, description="Tell of every product its error, range and share of values cut off.")

    @model_validator(mode="after")
    def _that_fit_together(self) -> QuantizeSettings:
        if self.runtime == "openvino" and self.method == "dynamic":
            raise ValueError("OpenVINO runs dynamic int8 several times slower than ONNX Runtime: give it method static, smooth or auto")
        if self.method in ("int4", "fp16", "bf16") and (self.tune or self.runtime != "onnxruntime"):
            raise ValueError(f"tune and runtime are for int8, not for method {self.method}")
        if self.target in ("cuda", "tensorrt"):
            if self.method in ("int4", "bf16"):
                raise ValueError(f"method {self.method} is for CPUs: target {self.target} goes with fp16, static, smooth or auto")
            if self.tune or self.runtime != "onnxruntime":
                raise ValueError(f"tune and runtime measure on this processor: they do not go with target {self.target}")
        return self
