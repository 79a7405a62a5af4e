"""Settings of the training loop and of `finetune`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypedDict

from pydantic import Field, field_validator, model_validator

from compress.settings.base import ADVANCED, DEVICE, HARDWARE, METHOD, TRAINING, Device, Only, Precision, Seed, Settings, seconds_of

LEARNING_RATE = (
    "Peak learning rate. Default: 1e-4 up to hidden size 512, 3e-5 above; 3x that with more than 20 labels; "
    "1e-3 for a BiLSTM or a static model."
)
Mode = Literal["full", "frozen", "lora", "adapter"]


class ModeDefaults(TypedDict, total=False):
    """Defaults that differ by mode."""

    epochs: int
    lr: float
    lora_rank: int
    lora_alpha: float
    adapter_size: int


MODE_DEFAULTS: dict[str, ModeDefaults] = {  # the learning rate of full depends on the hidden size
    "full": {"epochs": 3},
    "frozen": {"epochs": 50, "lr": 1e-3},
    "lora": {"epochs": 5, "lr": 3e-4, "lora_rank": 8, "lora_alpha": 16.0},
    "adapter": {"epochs": 5, "lr": 3e-4, "adapter_size": 64},
}
DEFAULT_EPOCHS = 3


def mode_defaults(document: Mapping[str, object]) -> ModeDefaults:
    """Return the defaults of the document's mode of `finetune`."""
    mode = document.get("mode", "full")
    return MODE_DEFAULTS.get(mode, {}) if isinstance(mode, str) else {}


class TrainSettings(Settings):
    """Settings of the training loop."""

    epochs: Annotated[int | None, TRAINING] = Field(None, ge=1, le=1000, description="Passes over the training data. Default: 3.")
    budget: Annotated[str | None, TRAINING] = Field(
        None, description="Time limit for everything (90s, 5m, 1h) instead of --epochs; runs as many steps as fit."
    )
    max_examples: Annotated[int | None, TRAINING] = Field(
        None, ge=1, description="Train on this many examples of the training split, drawn with the seed. Default: all."
    )
    lr: Annotated[float | None, TRAINING] = Field(None, gt=0, le=1, description=LEARNING_RATE)
    batch_size: Annotated[int, TRAINING] = Field(32, ge=1, le=4096, description="Examples per training step.")
    weight_decay: Annotated[float, ADVANCED] = Field(0.01, ge=0, lt=1, description="AdamW weight decay of the weight matrices.")
    warmup: Annotated[float, ADVANCED] = Field(0.1, ge=0, lt=1, description="Share of the steps that warm up the learning rate.")
    max_grad_norm: Annotated[float, ADVANCED] = Field(1.0, gt=0, description="Clip gradients to this global norm.")
    freeze_embeddings: Annotated[bool, TRAINING] = Field(False, description="Do not train the embeddings; saves about 10 % of the time.")
    precision: Annotated[Precision, HARDWARE] = Field(
        "auto", description="Precision of training; auto uses bf16 autocast if a short measurement shows that it is faster."
    )
    patience: Annotated[int | None, TRAINING] = Field(
        None, ge=1, description="Stop after this many epochs without a better validation score."
    )
    device: Annotated[Device, HARDWARE] = Field("auto", description=DEVICE)
    seeds: Annotated[list[Seed] | None, ADVANCED] = Field(
        None,
        min_length=2,
        max_length=100,
        description="Train once per seed, into folders such as seed-0, and report mean and spread; replaces --seed.",
    )

    @property
    def budget_seconds(self) -> float | None:
        """The budget in seconds."""
        return None if self.budget is None else seconds_of(self.budget)

    @field_validator("budget")
    @classmethod
    def _valid_budget(cls, value: str | None) -> str | None:
        if value is not None:
            seconds_of(value)
        return value

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, value: list[int] | None) -> list[int] | None:
        if value is not None and len(set(value)) < len(value):
            raise ValueError("give each seed once")
        return value

    @model_validator(mode="before")
    @classmethod
    def _epochs_or_budget(cls, document: object) -> object:
        if not isinstance(document, dict):
            return document
        epochs, budget = document.get("epochs"), document.get("budget")
        if epochs is not None and budget is not None:
            raise ValueError("give epochs or a budget, not both")
        return {**document, "epochs": cls.usual_epochs(document)} if epochs is None and budget is None else document

    @classmethod
    def usual_epochs(cls, document: Mapping[str, object]) -> int | None:
        """Return the epochs of a document that gives neither epochs nor a budget; None: they depend on the data."""
        return DEFAULT_EPOCHS


class FinetuneSettings(TrainSettings):
    """`finetune`: train a pre-trained encoder on a task. The mode sets the defaults."""

    epochs: Annotated[int | None, TRAINING] = Field(
        None, ge=1, le=1000, description="Passes over the training data. Default: 3; 50 for frozen, 5 for lora and adapter."
    )
    lr: Annotated[float | None, TRAINING] = Field(
        None, gt=0, le=1, description=f"{LEARNING_RATE[:-1]}; 1e-3 for frozen, 3e-4 for lora and adapter."
    )
    freeze_embeddings: Annotated[bool, TRAINING, Only("mode", "full")] = Field(
        False, description="Do not train the embeddings; saves about 10 % of the time."
    )
    mode: Annotated[Mode, METHOD] = Field(
        "full",
        description="What is trained: full: all weights; frozen: the head only; lora: the head and low-rank updates, merged at the end; "
        "adapter: the head, LayerNorms and bottleneck adapters that stay in the model.",
    )
    ranking_loss: Annotated[Literal["listwise", "pointwise"], METHOD] = Field(
        "listwise",
        description="Loss of a reranker on judgements (--beir): listwise compares the candidates of a query; pointwise asks of each "
        "whether it is relevant.",
    )
    lora_rank: Annotated[int | None, METHOD, Only("mode", "lora")] = Field(
        None, ge=1, le=4096, description="Rank of the low-rank updates. Default: 8."
    )
    lora_alpha: Annotated[float | None, METHOD, Only("mode", "lora")] = Field(
        None, gt=0, le=65536, description="Scale of the updates: they are multiplied by alpha / rank. Default: 16."
    )
    adapter_size: Annotated[int | None, METHOD, Only("mode", "adapter")] = Field(
        None, ge=1, le=16_384, description="Hidden size of the bottleneck adapters. Default: 64."
    )

    @model_validator(mode="before")
    @classmethod
    def _mode_defaults(cls, document: object) -> object:
        if not isinstance(document, dict):
            return document
        defaults = mode_defaults(document)
        return {**document, **{key: value for key, value in defaults.items() if key != "epochs" and document.get(key) is None}}

    @classmethod
    def usual_epochs(cls, document: Mapping[str, object]) -> int:
        """Return the epochs of the mode."""
        return mode_defaults(document).get("epochs", DEFAULT_EPOCHS)
