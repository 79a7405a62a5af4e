"""Settings of `prune`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from compress.settings.augmentation import AUGMENT, AUGMENT_MODEL, Augment, AugmentModel
from compress.settings.base import (
    CALIBRATION,
    DEVICE,
    HARDWARE,
    METHOD,
    TARGET,
    TRAINING,
    UNLABELED,
    AnyOf,
    Device,
    Fraction,
    Only,
    Positive,
    Settings,
    TargetSpeedup,
    Without,
    listed,
)

Method = Literal["obs", "fisher", "taylor", "magnitude", "random", "layers", "hidden", "vocab", "sparse"]
TARGETS = ("target_speedup", "target_latency_ms", "target_flops", "target_params", "max_drop")

STEPWISE = Only("method", "obs", "fisher")  # they score, cut and refit in steps
TARGETED = Only("method", "obs", "fisher", "taylor", "magnitude", "random", "layers", "hidden")  # they reach a target, and are timed
RECOVERY = Only("recover_epochs")
READS_TEXTS = AnyOf(Only("method", "obs", "fisher", "taylor", "layers", "hidden", "sparse"), RECOVERY)
COMPUTED = Without("method", "vocab")  # unused tokens are counted, not computed


class PruneSettings(Settings):
    """`prune`: remove attention heads and FFN neurons; or layers, hidden dimensions, tokens, single weights."""

    method: Annotated[Method, METHOD] = Field(
        "obs",
        description="obs, fisher: score, exact search and least-squares refit, in steps; taylor, magnitude, random: remove what scores "
        "lowest, once; layers: whole layers; hidden: hidden dimensions; vocab: unused tokens; sparse: single weights.",
    )
    target_speedup: Annotated[list[TargetSpeedup] | None, TARGET, TARGETED] = Field(
        None,
        min_length=1,
        max_length=16,
        description="Measured speedup to reach. Several targets write one model each, in folders such as 2x.",
    )
    target_latency_ms: Annotated[float | None, TARGET, TARGETED] = Field(None, gt=0, description="Measured latency to reach, in ms.")
    target_flops: Annotated[Fraction | None, TARGET, TARGETED] = Field(
        None, description="Share of the encoder's FLOPs to keep, such as 0.5."
    )
    target_params: Annotated[Fraction | None, TARGET, TARGETED] = Field(
        None, description="Share of the encoder's parameters (without embeddings) to keep, such as 0.5."
    )
    max_drop: Annotated[float | None, TARGET, TARGETED] = Field(
        None, ge=0, le=100, description="Accuracy budget in points: find the fastest model that loses no more on validation."
    )
    runtime: Annotated[Literal["onnxruntime", "openvino", "pytorch"], HARDWARE, TARGETED] = Field(
        "onnxruntime", description="Runtime that will serve the model, used for timing."
    )
    precision: Annotated[Literal["fp32", "int8", "bf16"], HARDWARE, TARGETED] = Field(
        "fp32", description="Precision in which the model will be served, used for timing."
    )
    batch_size: Annotated[int, HARDWARE, TARGETED] = Field(1, ge=1, le=4096, description="Batch size that is timed.")
    seq_len: Annotated[Annotated[int, Field(ge=1, le=8192)] | None, HARDWARE] = Field(
        None, description="Sequence length in tokens. Default: 32 for timing, the task's mean length for FLOPs."
    )
    threads: Annotated[int, HARDWARE, TARGETED] = Field(1, ge=1, le=1024, description="Number of threads that is timed.")
    steps: Annotated[int | Literal["auto"], METHOD, STEPWISE, Without("max_drop")] = Field(
        "auto", description="Pruning steps to each target; auto keeps about three quarters of the cost per step."
    )
    uniform: Annotated[bool, METHOD, STEPWISE] = Field(
        False, description="Keep all heads, one FFN size and whole layers: a checkpoint that every tool loads."
    )
    refit: Annotated[bool, METHOD, STEPWISE] = Field(
        True, description="Refit the remaining weights to the dense model's outputs; needs no labels."
    )
    refit_epochs: Annotated[Annotated[int, Field(ge=0, le=1000)], METHOD, STEPWISE, Only("refit")] = Field(
        2, description="Passes over the calibration texts of the final joint refit; 0: closed-form refits only."
    )
    tokens: Annotated[str, METHOD, STEPWISE, Without("uniform"), Without("runtime", "pytorch")] = Field(
        "off",
        description="Share of each text's tokens that is left after each layer, such as 1,0.7,0.4 for three layers: those that receive "
        "most attention stay; auto: searched together with heads and neurons; off: all tokens.",
    )
    calib_samples: Annotated[Positive | None, CALIBRATION, READS_TEXTS] = Field(
        None,
        description="Training examples for scores and refits; fewer if they exceed 50,000 tokens (embedders: 400,000). "
        "Default: 2048, or 80 per class if that is more (then up to 100,000 tokens).",
    )
    unlabeled: Annotated[str | None, CALIBRATION] = Field(
        None, description=f"Unlabeled texts for scores, refits and recovery instead of the training split: {UNLABELED}"
    )
    recover_epochs: Annotated[Annotated[int, Field(ge=0, le=1000)], TRAINING, TARGETED] = Field(
        0, description="Epochs of distillation from the dense model at each target."
    )
    recover: Annotated[Literal["after", "between"], TRAINING, STEPWISE, RECOVERY, Without("max_drop")] = Field(
        "after", description="When to distil: after the last step to a target, or spread over the steps."
    )
    recover_lr: Annotated[float | None, TRAINING, RECOVERY] = Field(
        None, gt=0, le=1, description="Peak learning rate of the distillation. Default: 2x that of finetune; 1x with method hidden."
    )
    augment: Annotated[Augment, RECOVERY] = Field(0, description=f"{AUGMENT}. For the distillation.")
    augment_model: AugmentModel = Field(None, description=AUGMENT_MODEL)
    pattern: Annotated[Literal["unstructured", "2:4"], METHOD, Only("method", "sparse")] = Field(
        "unstructured", description="Which weights may be removed: any, or 2 of 4 neighbours."
    )
    sparsity: Annotated[Fraction, METHOD, Only("method", "sparse"), Only("pattern", "unstructured")] = Field(
        0.5, description="Share of the weights to remove."
    )
    device: Annotated[Device, HARDWARE, COMPUTED] = Field("auto", description=DEVICE)

    @field_validator("target_speedup", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @field_validator("steps")
    @classmethod
    def _valid_steps(cls, value: object) -> object:
        if isinstance(value, int) and not 1 <= value <= 50:
            raise ValueError("should be from 1 to 50, or auto")
        return value

    @field_validator("tokens", mode="before")
    @classmethod
    def _tokens_as_text(cls, value: object) -> object:
        """Read what YAML makes of `off` and of a list."""
        if value is False:
            return "off"
        return ",".join(map(str, value)) if isinstance(value, list) else value

    @field_validator("tokens")
    @classmethod
    def _valid_tokens(cls, value: str) -> str:
        try:
            shares = [] if value in ("auto", "off") else [float(part) for part in value.split(",")]
        except ValueError:
            shares = [0.0]
        if not all(0 < share <= 1 for share in shares) or sorted(shares, reverse=True) != shares:
            raise ValueError("should be off, auto, or falling shares above 0, up to 1, separated by commas, such as 1,0.7,0.4")
        return value

    @model_validator(mode="after")
    def _one_target(self) -> PruneSettings:
        given = [name for name in TARGETS if getattr(self, name) is not None]
        if TARGETED.holds(self) and len(given) != 1:
            raise ValueError(f"give exactly one target: {listed(TARGETS)}")
        return self
