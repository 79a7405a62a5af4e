"""Settings of `share`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compress.settings.base import Device, Positive, Settings


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
