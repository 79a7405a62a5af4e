"""Settings of `auto`: what is asked for, where the model is served, and how long the search may take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from compress.settings.base import (
    BUDGET,
    DEVICE,
    HARDWARE,
    OBJECTIVE,
    SERVING,
    TRAINING,
    UNLABELED,
    Device,
    Only,
    Settings,
    seconds_of,
)

ServingRuntime = Literal["auto", "onnxruntime", "openvino"]


class AutoSettings(Settings):
    """`auto`: search the best model within an accuracy budget or a latency, in a given time."""

    max_drop: Annotated[float | None, OBJECTIVE] = Field(
        None, ge=0, le=100, description="Find the fastest model that loses at most this many points of the main metric."
    )
    smallest: Annotated[bool, OBJECTIVE, Only("max_drop")] = Field(False, description="Find the smallest model instead of the fastest.")
    target_latency_ms: Annotated[float | None, OBJECTIVE] = Field(
        None, gt=0, description="Find the most accurate model that answers a batch within this time."
    )
    confidence: Annotated[float | None, OBJECTIVE, Only("max_drop")] = Field(
        None,
        gt=0.5,
        lt=1,
        description="Probability with which the drop must be within --max-drop, by its measurement alone. "
        "Default: 0.9, by what similar models lost, too.",
    )
    batch_size: Annotated[int, SERVING] = Field(1, ge=1, le=4096, description="Texts in a batch.")
    seq_len: Annotated[int | None, SERVING] = Field(
        None, ge=4, le=8192, description="Tokens of a text. Default: the task's mean length, rounded up to a multiple of 16."
    )
    threads: Annotated[int, SERVING] = Field(1, ge=1, le=1024, description="Threads.")
    runtime: Annotated[ServingRuntime, SERVING] = Field("auto", description="Runtime; auto times both and takes the faster.")
    budget: Annotated[str, BUDGET] = Field("1h", description="Wall time of the whole search: 20m, 1.5h.")
    unlabeled: Annotated[str | None, TRAINING] = Field(None, description=f"Additional unlabeled texts to learn from: {UNLABELED}")
    device: Annotated[Device, HARDWARE] = Field("auto", description=f"{DEVICE} Models are served on the CPU.")

    @field_validator("budget")
    @classmethod
    def _valid_budget(cls, value: str) -> str:
        seconds_of(value)
        return value

    @model_validator(mode="after")
    def _one_objective(self) -> AutoSettings:
        if (self.max_drop is None) == (self.target_latency_ms is None):
            raise ValueError("give exactly one objective: max_drop or target_latency_ms")
        return self

    @property
    def budget_seconds(self) -> float:
        """The budget in seconds."""
        return seconds_of(self.budget)
