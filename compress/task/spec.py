"""What a task is: where the texts are, which column is the label, how long inputs may be, what is measured.

A preset, a YAML file and the command line's flags all end in one `TaskSpec`. No torch in this module.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["text-classification"]
MetricName = Literal["accuracy", "f1", "macro_f1", "matthews"]
SPLITS = ("train", "validation", "test")


class HubSource(BaseModel):
    """Parquet files of a dataset repository: one pattern per split."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="owner/name of the dataset repository")
    revision: str | None = Field(None, description="branch, tag or commit")
    train: str
    validation: str | None = None
    test: str | None = None


class TaskSpec(BaseModel):
    """A task, resolved: exactly one source of data (`builtin`, `hub`, or local files)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str = Field("custom", pattern=r"^[\w.-]{1,64}$")
    kind: Kind = "text-classification"
    text: list[str] = Field(min_length=1, max_length=2, description="one or two text columns")
    label: str = Field("label", description="the label column")
    labels: list[str] | None = Field(None, min_length=2, description="label names in the order of their numbers")
    max_length: Annotated[int, Field(ge=4, le=8192)] = 128
    metrics: list[MetricName] = Field(["accuracy"], min_length=1, description="the first one is the main metric")
    builtin: Literal["bbc-news"] | None = None
    hub: HubSource | None = None
    train: str | None = Field(None, description="local file: Parquet, CSV, TSV or JSON lines")
    validation: str | None = None
    test: str | None = None
    description: str = ""

    @model_validator(mode="after")
    def _one_source(self) -> TaskSpec:
        local = any(self.local_files().values())
        if sum([self.builtin is not None, self.hub is not None, local]) != 1:
            raise ValueError("give the data as exactly one of: files (train, validation, test), hub, builtin")
        if self.labels and len(set(self.labels)) < len(self.labels):
            raise ValueError("a label stands twice in 'labels'")
        return self

    @property
    def main_metric(self) -> str:
        """The metric that gates, early stopping and plots use."""
        return self.metrics[0]

    def local_files(self) -> dict[str, str]:
        """Map each split that is a local file to its path."""
        files = {"train": self.train, "validation": self.validation, "test": self.test}
        return {split: path for split, path in files.items() if path}

    def with_files(self, files: dict[str, str]) -> TaskSpec:
        """Return this task with local files in the place of its data, columns unchanged."""
        absolute = {split: str(Path(path).absolute()) for split, path in files.items()}
        cleared = {"builtin": None, "hub": None, "train": None, "validation": None, "test": None}
        return TaskSpec.model_validate(self.model_dump() | cleared | absolute)
