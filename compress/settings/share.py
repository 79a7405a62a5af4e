"""Settings of `share`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.settings.base import CALIBRATION, DEVICE, HARDWARE, METHOD, TARGET, UNLABELED, Device, Only, Positive, Settings

SEARCHED = Only("groups", "auto")


class ShareSettings(Settings):
    """`share`: several layers use one copy of the weights."""

    layers: Annotated[Annotated[int, Field(ge=1, le=1000)] | None, TARGET] = Field(
        None, description="Number of distinct layers to keep, in equal groups or in those that --groups auto finds."
    )
    groups: Annotated[str | None, TARGET] = Field(
        None,
        description="Layers that share, counted from 0: 0-1,2-3,4-5; auto: merge the neighbours whose sharing changes the logits least.",
    )
    how: Annotated[Literal["mean", "first", "last"], METHOD] = Field(
        "first", description="Weights of a group: the mean of its layers, or those of its first or last layer."
    )
    calib_samples: Annotated[Positive, CALIBRATION, SEARCHED] = Field(256, description="Training examples to compare logits on.")
    unlabeled: Annotated[str | None, CALIBRATION, SEARCHED] = Field(
        None, description=f"Unlabeled texts to use instead of training examples: {UNLABELED}"
    )
    device: Annotated[Device, HARDWARE, SEARCHED] = Field("auto", description=DEVICE)

    @property
    def reads_train(self) -> bool:
        """Whether groups are compared on training texts."""
        return self.groups == "auto" and super().reads_train

    @model_validator(mode="after")
    def _layers_or_groups(self) -> ShareSettings:
        if (self.groups in (None, "auto")) != (self.layers is not None):
            raise ValueError("give layers (with groups auto, or alone for equal groups), or groups such as 0-1,2-3")
        return self
