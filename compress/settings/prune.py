"""Settings of `prune`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from compress.settings.augmentation import AUGMENT_MODEL, Augment, AugmentModel, check_augment
from compress.settings.base import Device, Fraction, Positive, Settings, Speedup


class PruneSettings(Settings):
    """`prune`: remove attention heads and FFN neurons; or layers, width, words, single weights."""

    method: Literal["obs", "fisher", "taylor", "magnitude", "random", "layers", "hidden", "vocab", "sparse"] = Field(
        "obs",
        description="obs, fisher: steps of scores, exact search and least-squares refits; taylor, magnitude, random: the scores alone; "
        "layers, hidden, vocab, sparse: whole layers, width, unused words, single weights.",
    )
    target_speedup: list[Speedup] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="Measured speedup to reach; several write a model each, in folders such as 2x.",
    )
    target_latency_ms: float | None = Field(None, gt=0, description="Measured latency to reach, in milliseconds.")
    target_flops: Fraction | None = Field(None, description="Share of the encoder's FLOPs to keep, e.g. 0.5.")
    target_params: Fraction | None = Field(None, description="Share of the encoder's parameters (embeddings aside) to keep, e.g. 0.5.")
    max_drop: float | None = Field(
        None, ge=0, le=100, description="Find the fastest model that loses at most so many points on validation."
    )
    runtime: Literal["onnxruntime", "openvino", "pytorch"] = Field("onnxruntime", description="What will serve the model, and is timed.")
    precision: Literal["fp32", "int8", "bf16"] = Field("fp32", description="In which it will be served, and is timed.")
    batch_size: int = Field(1, ge=1, le=4096, description="Texts in a batch, as timed.")
    seq_len: Annotated[int, Field(ge=1, le=8192)] | None = Field(
        None, description="Tokens of a text: as timed (default 32), and for FLOPs (default: the task's mean length)."
    )
    threads: int = Field(1, ge=1, le=1024, description="Threads, as timed.")
    steps: int | Literal["auto"] = Field(
        "auto", description="Steps of obs and fisher to each target; auto: each leaves about three quarters."
    )
    uniform: bool = Field(
        False, description="Keep all heads, one FFN width and whole layers: a plain checkpoint for any tool (obs and fisher)."
    )
    refit: bool = Field(True, description="Refit what is left to the dense model, without labels (obs and fisher).")
    refit_epochs: Annotated[int, Field(ge=0, le=1000)] = Field(
        2, description="Passes over the calibration texts that fit all of it at the end; 0: closed forms alone."
    )
    calib_samples: Positive = Field(2048, description="Training examples for scores and refits, fewer beyond 50,000 tokens.")
    unlabeled: str | None = Field(
        None, description="Texts without labels for scores, refits and recovery: .txt, or a table with the task's columns."
    )
    recover_epochs: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="Epochs of distillation from the dense model at each target."
    )
    recover: Literal["after", "between"] = Field(
        "after", description="Recover after the last step to a target, or spread the epochs over the steps."
    )
    recover_lr: float | None = Field(
        None, gt=0, le=1, description="Peak learning rate of the recovery; by default twice that of training, with method hidden the same."
    )
    augment: Augment = Field(0, description="Variants made of each text (spans, spans joined, words masked) for the recovery.")
    augment_model: AugmentModel = Field(None, description=AUGMENT_MODEL)
    pattern: Literal["unstructured", "2:4"] = Field("unstructured", description="Which weights method sparse may remove.")
    sparsity: Fraction = Field(0.5, description="Share of the weights that method sparse removes (2:4 removes half).")
    device: Device = Field("auto", description="Where to compute; auto takes a GPU where there is one.")

    @field_validator("target_speedup", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @field_validator("steps")
    @classmethod
    def _some_steps(cls, value: object) -> object:
        if isinstance(value, int) and not 1 <= value <= 50:
            raise ValueError("should be from 1 to 50, or auto")
        return value

    @model_validator(mode="after")
    def _one_target(self) -> PruneSettings:
        names = ("target_speedup", "target_latency_ms", "target_flops", "target_params", "max_drop")
        given = [name for name in names if getattr(self, name) is not None]
        if self.method in ("vocab", "sparse"):
            if given:
                raise ValueError(f"method {self.method} takes no {given[0]}")
        elif len(given) != 1:
            raise ValueError(f"give exactly one target: {', '.join(names)}")
        for name in ("steps", "uniform"):
            if getattr(self, name) not in ("auto", False) and self.method not in ("fisher", "obs"):
                raise ValueError(f"{name} goes with methods obs and fisher, not {self.method}")
        check_augment(self.augment, self.augment_model)
        return self
