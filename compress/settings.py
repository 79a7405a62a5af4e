"""What each verb can be told: one model per verb, shared by recipes, the command line and the Python API.

A field's type, default, bounds and description are written once, here; `compress.cli.options` turns them into
command-line options and `compress.recipe.schema` into the recipe's schema. No torch in this module.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
Split = Literal["auto", "train", "validation", "test"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
LEARNING_RATE = "Peak learning rate; by default 1e-4 up to 512 wide, 3e-5 above; thrice that beyond 20 labels."
Positive = Annotated[int, Field(ge=1, le=1_000_000)]


class Settings(BaseModel):
    """Base of every verb's settings: strict types, no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TrainSettings(Settings):
    """The training loop's settings."""

    epochs: int = Field(3, ge=1, le=1000, description="Passes over the training data.")
    lr: float | None = Field(None, gt=0, le=1, description=LEARNING_RATE)
    batch_size: int = Field(32, ge=1, le=4096, description="Examples per training step.")
    weight_decay: float = Field(0.01, ge=0, lt=1, description="AdamW's decay of weight matrices.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this global norm.")
    freeze_embeddings: bool = Field(False, description="Do not train the embeddings (saves a tenth of the time).")
    precision: Precision = Field("auto", description="Autocast; auto uses bf16 where a short measurement says it pays.")
    patience: int | None = Field(None, ge=1, description="Stop after this many epochs without a better validation score.")
    device: Device = Field("auto", description="Where to compute; auto takes a GPU where there is one.")


class FinetuneSettings(TrainSettings):
    """`finetune`: train a pre-trained encoder on a task."""

    mode: Literal["full"] = Field("full", description="What is trained: full (every weight).")


class PruneSettings(Settings):
    """`prune`: remove attention heads and FFN neurons."""

    method: Literal["fisher", "taylor", "magnitude"] = Field(
        "fisher", description="fisher: steps of per-example scores and least-squares refits; taylor: the scores alone; magnitude."
    )
    target_speedup: float | None = Field(
        None, gt=1, le=100, description="Measured speedup to reach (ONNX Runtime fp32, batch 1, one thread, seq_len or 32 tokens)."
    )
    target_flops: Fraction | None = Field(None, description="Share of the encoder's FLOPs to keep, e.g. 0.5.")
    target_params: Fraction | None = Field(None, description="Share of the encoder's parameters (embeddings aside) to keep, e.g. 0.5.")
    steps: Annotated[int, Field(ge=1, le=50)] | None = Field(
        None, description="Steps of fisher on the way to the target; by default each leaves about three quarters."
    )
    calib_samples: Positive = Field(1024, description="Training examples for scores and refits, fewer beyond 25,000 tokens.")
    seq_len: Annotated[int, Field(ge=1, le=8192)] | None = Field(
        None, description="Length at which FLOPs are counted; by default the task's mean length."
    )
    device: Device = Field("auto", description="Where to compute; auto takes a GPU where there is one.")

    @model_validator(mode="after")
    def _one_target(self) -> PruneSettings:
        targets = (self.target_speedup, self.target_flops, self.target_params)
        if sum(target is not None for target in targets) != 1:
            raise ValueError("give exactly one target: target_speedup, target_flops or target_params")
        if self.steps is not None and self.method != "fisher":
            raise ValueError(f"steps go with method fisher, not {self.method}")
        return self


class DistillSettings(TrainSettings):
    """`distill`: train a small student to answer as its teacher does."""

    temperature: float = Field(2.0, gt=0, le=100, description="Softens both distributions in the logits loss.")
    hard_weight: float = Field(0.1, ge=0, le=1, description="Weight of the labels' cross-entropy; the rest is soft.")
    hidden_weight: float = Field(1.0, ge=0, description="Weight of the hidden-state loss; 0 turns it off.")
    match: Literal["last", "uniform"] = Field(
        "last", description="Hidden states matched: the last one, or every student layer to its teacher layer."
    )


class ExportSettings(Settings):
    """`export`: write a verified ONNX artifact."""

    tolerance: float = Field(1e-3, gt=0, description="Largest allowed difference of the logits from PyTorch's.")


class QuantizeSettings(Settings):
    """`quantize`: int8 weights and activations."""

    method: Literal["dynamic"] = Field("dynamic", description="dynamic: activation ranges are measured per batch.")
    max_drop: float | None = Field(None, ge=0, le=100, description="Fail (exit 6) if validation loses more points than this.")


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
