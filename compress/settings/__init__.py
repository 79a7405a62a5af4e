"""What each verb can be told: one model per verb, shared by recipes, the command line and the Python API.

A field's type, default, bounds and description are written once, here; `compress.cli.options` turns them into
command-line options and `compress.recipe.schema` into the recipe's schema. No torch in this module.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from compress.settings import distill_losses

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
Split = Literal["auto", "train", "validation", "test"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Speedup = Annotated[float, Field(gt=1, le=100)]
LEARNING_RATE = "Peak learning rate; by default 1e-4 up to 512 wide, 3e-5 above; thrice that beyond 20 labels; of a BiLSTM 1e-3."
Mode = Literal["full", "frozen", "lora", "adapter"]
MODE_DEFAULTS: dict[str, dict[str, Any]] = {  # the learning rate of full goes by the model's width
    "full": {"epochs": 3},
    "frozen": {"epochs": 50, "lr": 1e-3},
    "lora": {"epochs": 5, "lr": 3e-4, "lora_rank": 8, "lora_alpha": 16.0},
    "adapter": {"epochs": 5, "lr": 3e-4, "adapter_size": 64},
}
DEFAULT_EPOCHS = 3
LONGEST = 7 * 24 * 3600  # seconds
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Augment = Annotated[int, Field(ge=0, le=100)]
AugmentModel = Annotated[str, Field(min_length=1, max_length=4096)] | None
AUGMENT_MODEL = "A masked language model (a folder or hub id) that makes the variants instead: words replaced by likely others."


def seconds_of(text: str) -> float:
    """Return the seconds of a time such as `90s`, `5m`, `1.5h`.

    Raises:
        ValueError: written otherwise, nothing at all, or more than a week.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smh])", text)
    seconds = float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 0 < seconds <= LONGEST:
        raise ValueError("write a time of at most a week as 90s, 5m or 1.5h")
    return seconds


class Settings(BaseModel):
    """Base of every verb's settings: strict types, no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @property
    def reads_train(self) -> bool:
        """Whether a verb of no certain split needs the training split, or has texts in its place."""
        return not getattr(self, "unlabeled", None)


def check_augment(augment: int, model: str | None) -> None:
    """Check that a model that makes variants is told how many.

    Raises:
        ValueError: it is not.
    """
    if model and not augment:
        raise ValueError("augment_model makes variants of the texts: say how many of each, such as augment 3")


def mode_defaults(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a mode of `finetune` sets where the document does not."""
    mode = document.get("mode", "full")
    return MODE_DEFAULTS.get(mode, {}) if isinstance(mode, str) else {}


class TrainSettings(Settings):
    """The training loop's settings."""

    epochs: int | None = Field(None, ge=1, le=1000, description="Passes over the training data; by default 3.")
    budget: str | None = Field(None, description="Time for all of it (90s, 5m, 1h), in the place of --epochs; as many steps as fit.")
    lr: float | None = Field(None, gt=0, le=1, description=LEARNING_RATE)
    batch_size: int = Field(32, ge=1, le=4096, description="Examples per training step.")
    weight_decay: float = Field(0.01, ge=0, lt=1, description="AdamW's decay of weight matrices.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the steps in which the learning rate rises.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this global norm.")
    freeze_embeddings: bool = Field(False, description="Do not train the embeddings (saves a tenth of the time).")
    precision: Precision = Field("auto", description="Autocast; auto uses bf16 where a short measurement says it pays.")
    patience: int | None = Field(None, ge=1, description="Stop after this many epochs without a better validation score.")
    device: Device = Field("auto", description="Where to compute; auto takes a GPU where there is one.")
    seeds: list[Seed] | None = Field(
        None, min_length=2, max_length=100, description="Train once with each, into folders such as seed-0, and tell the spread; no --seed."
    )

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else seconds_of(self.budget)

    @field_validator("budget")
    @classmethod
    def _a_time(cls, value: str | None) -> str | None:
        if value is not None:
            seconds_of(value)
        return value

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("name each seed once")
        return value

    @model_validator(mode="before")
    @classmethod
    def _epochs_or_budget(cls, document: Any) -> Any:
        if not isinstance(document, dict) or document.get("epochs") is not None:
            if isinstance(document, dict) and document.get("budget") is not None:
                raise ValueError("give epochs or a budget of time, not both")
            return document
        return document if document.get("budget") is not None else {**document, "epochs": cls.usual_epochs(document)}

    @classmethod
    def usual_epochs(cls, document: dict[str, Any]) -> int | None:
        """Return the epochs of settings that name neither these nor a budget; None: it depends on the data."""
        return DEFAULT_EPOCHS


class FinetuneSettings(TrainSettings):
    """`finetune`: train a pre-trained encoder on a task. What is not given is filled in as the mode has it."""

    epochs: int | None = Field(
        None, ge=1, le=1000, description="Passes over the training data; by default 3, frozen 50, lora and adapter 5."
    )
    lr: float | None = Field(None, gt=0, le=1, description=f"{LEARNING_RATE[:-1]}; frozen 1e-3, lora and adapter 3e-4.")
    mode: Mode = Field(
        "full",
        description="What is trained: full (every weight), frozen (the head), lora (low-rank updates, merged at the end, and the head), "
        "adapter (bottlenecks that stay in the model, LayerNorms and the head).",
    )
    lora_rank: int | None = Field(None, ge=1, le=4096, description="Rank of the updates; by default 8 (lora).")
    lora_alpha: float | None = Field(
        None, gt=0, le=65536, description="Their scale: they are multiplied by it over the rank; by default 16 (lora)."
    )
    adapter_size: int | None = Field(None, ge=1, le=16_384, description="Width of the bottlenecks; by default 64 (adapter).")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, document: Any) -> Any:
        own = mode_defaults(document) if isinstance(document, dict) else {}
        filled = {key: value for key, value in own.items() if key != "epochs" and document.get(key) is None}
        return {**document, **filled} if filled else document

    @classmethod
    def usual_epochs(cls, document: dict[str, Any]) -> int:
        """Return the epochs of the mode."""
        return mode_defaults(document).get("epochs", DEFAULT_EPOCHS)

    @model_validator(mode="after")
    def _known_to_the_mode(self) -> FinetuneSettings:
        for name, mode in (("lora_rank", "lora"), ("lora_alpha", "lora"), ("adapter_size", "adapter")):
            if getattr(self, name) is not None and self.mode != mode:
                raise ValueError(f"{name} goes with mode {mode}, not {self.mode}")
        return self


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


def _only_method(document: dict[str, Any]) -> str:
    """Return the one method that a document of `distill` names; empty where there are more or none."""
    method = document.get("method")
    alone = method[0] if isinstance(method, list) and len(method) == 1 else method
    return alone if isinstance(alone, str) else ""


class DistillSettings(TrainSettings):
    """`distill`: train a small student to answer as its teacher does. What is not given is filled in as the method has it."""

    epochs: int | None = Field(
        None, ge=1, le=1000, description="Passes over the texts; by default 3, of few texts more, for 1,000 steps, but at most 10."
    )
    lr: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Peak learning rate; by default 2e-4 up to 512 wide, 6e-5 above; half as much again beyond 20 labels; 5e-4 and "
        "1.5e-4 for a SPEC of another width; labels alone as finetune; tinybert 3e-5; of a BiLSTM 1e-3.",
    )
    method: list[str] = Field(
        list(distill_losses.DEFAULT),
        min_length=1,
        max_length=16,
        description=f"Losses, as NAME or NAME:WEIGHT: {', '.join(distill_losses.METHODS)}.",
    )
    match: str | None = Field(
        None,
        max_length=4096,
        description="Layers matched: last, uniform, all (with the embeddings), or by loss: hidden:0-0,12-4;gram:12-4 (TEACHER-STUDENT); "
        "by default all for nmse and in tinybert, else last.",
    )
    temperature: float | None = Field(
        None, gt=0, le=100, description="Softens both distributions in the logits loss; by default 2, with tinybert 1."
    )
    hard_weight: float | None = Field(
        None, ge=0, le=1, description="Weight of the labels' loss; the rest is soft. By default 0.1; tinybert, cofi 0."
    )
    dropout: bool | None = Field(
        None, description="Drop some of the student's hidden states, as its config says; by default only with theseus and tinybert."
    )
    relation_heads: int | None = Field(None, ge=1, le=1024, description="Heads of method relations; by default the teacher's, or fewer.")
    dkd_beta: float | None = Field(None, ge=0, le=100, description="Weight of the other classes in method dkd; by default 8.")
    layer_epochs: int | None = Field(
        None, ge=1, le=1000, description="Epochs of the losses of layers alone; then --epochs of the others; by default none, tinybert 10."
    )
    layer_lr: float | None = Field(None, gt=0, le=1, description="Their peak learning rate; by default that of the others, tinybert 5e-5.")
    init: Literal["auto", "layers", "importance", "random"] = Field(
        "auto",
        description="How a student of a SPEC starts: the teacher's layers (layers), its most important dimensions, heads and neurons "
        "(importance), or random; auto: the first of the two that fits, lower layers or spread ones by a trial; of a BiLSTM the "
        "teacher's words.",
    )
    unlabeled: str | None = Field(None, description="Texts without labels to learn from as well: .txt, or a table with the task's columns.")
    augment: Augment = Field(0, description="Variants made of each text (spans, spans joined, words masked), which the teacher labels.")
    augment_model: AugmentModel = Field(None, description=AUGMENT_MODEL)

    @field_validator("method", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @classmethod
    def usual_epochs(cls, document: dict[str, Any]) -> int | None:
        """Return those of TinyBERT's second stage; else None: how many it is depends on the number of texts."""
        return DEFAULT_EPOCHS if _only_method(document) == "tinybert" else None

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        own = distill_losses.METHOD_DEFAULTS.get(_only_method(document), {})
        filled = {**distill_losses.DEFAULTS, **own}
        return {**document, **{key: value for key, value in filled.items() if document.get(key) is None}}

    @model_validator(mode="after")
    def _go_together(self) -> DistillSettings:
        losses, layered = self.losses, self.layers_matched
        if "relations" not in losses and self.relation_heads:
            raise ValueError("relation_heads goes with method relations")
        if self.match is not None and not layered:
            raise ValueError("match goes with a method that compares layers, such as hidden")
        if "theseus" in losses and (
            self.hard_weight not in (distill_losses.DEFAULTS["hard_weight"], 1)
            or self.temperature != distill_losses.DEFAULTS["temperature"]
        ):
            raise ValueError("method theseus learns from labels alone: it takes no hard_weight and no temperature")
        if "dkd" not in losses and self.dkd_beta is not None:
            raise ValueError("dkd_beta goes with method dkd")
        if self.layer_epochs and not layered and "cofi" not in losses:
            raise ValueError("layer_epochs needs a method that matches layers, such as hidden")
        if self.budget and (self.layer_epochs or "theseus" in losses):
            raise ValueError(
                "a budget of time goes with one stage of training, whose length may change: not with layer_epochs (which tinybert has), "
                "nor with theseus"
            )
        if self.layer_lr and not self.layer_epochs:
            raise ValueError("layer_lr goes with layer_epochs")
        if (self.augment or self.unlabeled) and "theseus" in losses:
            raise ValueError("method theseus learns from labels alone: leave out augment and unlabeled, or take another method")
        if (self.augment or self.unlabeled) and not set(distill_losses.OUTPUTS) & set(losses):
            raise ValueError(
                "nothing would train the head, for with augment or unlabeled the labels do not count: add the method logits or dkd"
            )
        if not self.hard_weight and not {*distill_losses.OUTPUTS, "theseus"} & set(losses):
            raise ValueError("nothing would train the head: add the method logits or dkd, or raise hard_weight")
        check_augment(self.augment, self.augment_model)
        return self

    @property
    def losses(self) -> dict[str, float]:
        """The losses by name with their weights; `tinybert` as the losses that it stands for."""
        found = distill_losses.parse_methods(self.method)
        if "tinybert" in found:
            found = distill_losses.parse_methods(list(distill_losses.TINYBERT))
        return found

    @property
    def layers_matched(self) -> dict[str, str | distill_losses.Pairs]:
        """What each loss of layers matches: a word, or pairs of layers."""
        return distill_losses.parse_match(self.match, [name for name in self.losses if name in distill_losses.LAYERED])


class FactorizeSettings(Settings):
    """`factorize`: two smaller matrices in the place of one, of linears and of the word embeddings."""

    method: Literal["fisher", "activations", "plain"] = Field(
        "fisher",
        description="What errors are weighed by: fisher: the inputs that a linear sees and what its outputs are worth to the answer; "
        "activations: the inputs alone; plain: nothing, the SVD of the weights.",
    )
    target_flops: Fraction | None = Field(None, description="Share of the encoder's FLOPs to keep, e.g. 0.75.")
    target_params: Fraction | None = Field(None, description="Share of the encoder's parameters (embeddings aside) to keep, e.g. 0.75.")
    rank: Annotated[int, Field(ge=1, le=16_384)] | None = Field(None, description="The same rank for every linear that it makes smaller.")
    ratio: Fraction | None = Field(None, description="Share of its own weights that every linear keeps.")
    embedding_rank: Annotated[int, Field(ge=1, le=16_384)] | None = Field(
        None, description="Columns of the table of words, with a projection behind it."
    )
    refit: bool = Field(True, description="Refit the output projections by least squares, on the factorized model's own inputs.")
    seq_len: Annotated[int, Field(ge=1, le=8192)] | None = Field(
        None, description="Tokens of a text, for FLOPs (default: the task's mean length)."
    )
    calib_samples: Positive = Field(2048, description="Training examples for weights and refits, fewer beyond 50,000 tokens.")
    unlabeled: str | None = Field(None, description="Texts without labels to use instead: .txt, or a table with the task's columns.")
    device: Device = Field("auto", description="Where to compute; auto takes a GPU where there is one.")

    @property
    def asked(self) -> dict[str, Any]:
        """What was asked for: at most one of the linears' targets, and the rank of the embeddings."""
        named = {name: getattr(self, name) for name in ("target_flops", "target_params", "rank", "ratio", "embedding_rank")}
        return {name: value for name, value in named.items() if value is not None}

    @property
    def changes_linears(self) -> bool:
        """Tell whether a target of the linears was given."""
        return bool(set(self.asked) - {"embedding_rank"})

    @model_validator(mode="after")
    def _one_target(self) -> FactorizeSettings:
        if not self.asked or len(set(self.asked) - {"embedding_rank"}) > 1:
            raise ValueError("give one of target_flops, target_params, rank and ratio, or embedding_rank, or one and this")
        return self


class ShareSettings(Settings):
    """`share`: one copy of the weights for several layers."""

    layers: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Copies of a layer's weights that stay: in equal groups, or in those that --groups auto finds."
    )
    groups: str | None = Field(
        None, description="Layers that share, counted from 0: 0-1,2-3,4-5; auto: neighbours whose sharing changes the answers least."
    )
    how: Literal["mean", "first", "last"] = Field(
        "first", description="Which weights a group gets: the mean of its layers', or those of its first or last layer."
    )
    calib_samples: Positive = Field(256, description="Training examples by which --groups auto judges.")
    unlabeled: str | None = Field(
        None, description="Texts without labels by which --groups auto judges instead: .txt, or a table with the task's columns."
    )
    device: Device = Field("auto", description="Where to compute; auto takes a GPU where there is one.")

    @property
    def reads_train(self) -> bool:
        """Whether groups are tried out, on training texts."""
        return self.groups == "auto" and super().reads_train

    @model_validator(mode="after")
    def _which_groups(self) -> ShareSettings:
        if (self.groups in (None, "auto")) != (self.layers is not None):
            raise ValueError("give layers (with groups auto, or alone for equal groups), or groups such as 0-1,2-3")
        if self.unlabeled and self.groups != "auto":
            raise ValueError("unlabeled is what groups auto judges by: give groups auto and layers, or leave it out")
        return self


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
