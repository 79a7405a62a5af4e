"""Settings of the training loop and of `finetune`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from compress.settings.base import Device, Precision, Seed, Settings, seconds_of

LEARNING_RATE = "Peak learning rate; by default 1e-4 up to 512 wide, 3e-5 above; thrice that beyond 20 labels; of a BiLSTM 1e-3."
Mode = Literal["full", "frozen", "lora", "adapter"]
MODE_DEFAULTS: dict[str, dict[str, Any]] = {  # the learning rate of full goes by the model's width
    "full": {"epochs": 3},
    "frozen": {"epochs": 50, "lr": 1e-3},
    "lora": {"epochs": 5, "lr": 3e-4, "lora_rank": 8, "lora_alpha": 16.0},
    "adapter": {"epochs": 5, "lr": 3e-4, "adapter_size": 64},
}
DEFAULT_EPOCHS = 3


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
