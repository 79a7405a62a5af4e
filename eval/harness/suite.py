"""A suite: models x tasks x our steps x peers x cells x threads. Strict: an unknown key is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from peers import PEERS
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from compress.core import yaml_file
from compress.core.errors import DataError, RecipeError, did_you_mean
from compress.core.validation import validate
from compress.data.dataset_objects import SPLITS
from compress.data.presets import resolve
from compress.data.spec import TaskSpec
from compress.recipe.verbs import VERBS
from compress.settings import FinetuneSettings

Verb = Literal["prune", "distill", "export", "quantize"]
Name = Annotated[str, Field(pattern=r"^[\w.+-]{1,40}$")]
QUICK = {"rounds": 5, "seconds": 5.0, "warm_ups": 1}
QUICK_EXAMPLES = 100


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Step(_Strict):
    """One verb on the way from the teacher to a candidate, with its settings."""

    do: Verb
    student: str | None = Field(None, description="distill: a SPEC such as layers=3; by default the model of the step before")
    settings: dict[str, Any] = Field({}, alias="with", description="the verb's settings, by the names of recipes")

    @model_validator(mode="after")
    def _known_settings(self) -> Step:
        if self.student is not None and self.do != "distill":
            raise ValueError(f"'student' goes with distill, not {self.do}")
        checked(self.do, self.settings)
        return self


class Cell(_Strict):
    """Texts in a batch, and their tokens."""

    batch_size: int = Field(ge=1, le=4096)
    seq_len: int = Field(ge=4, le=512)

    @property
    def title(self) -> str:
        """The cell in a table's head."""
        return f"b{self.batch_size} s{self.seq_len}"


class Suite(_Strict):
    """A comparison, as its file describes it."""

    schema_: Literal[1] = Field(alias="schema")
    name: Name
    description: str = ""
    seed: int = Field(17, ge=0)
    models: list[str] = Field(min_length=1, max_length=8, description="encoders that teachers are made from")
    tasks: list[str] = Field(min_length=1, max_length=8, description="presets, or task files next to the suite")
    split: Literal["auto", "train", "validation", "test"] = Field("validation", description="where accuracy is measured")
    teacher: dict[str, Any] = Field({}, description="settings of finetune")
    ours: dict[Name, list[Step]] = Field(min_length=1, max_length=8, description="each candidate's steps from the teacher")
    peers: dict[str, list[str]] = Field({}, description="each peer's variants")
    cells: list[Cell] = Field(min_length=1, max_length=12)
    threads: list[Annotated[int, Field(ge=1, le=256)]] = Field([1], min_length=1, max_length=8)
    rounds: int = Field(100, ge=5, le=10_000, description="interleaved rounds per cell")
    seconds: float = Field(60.0, gt=0, le=3600, description="time limit per cell; fewer rounds are run if it is hit")
    warm_ups: int = Field(3, ge=1, le=100, description="runs before the rounds of a cell, for each candidate")
    calib_samples: int = Field(300, ge=1, le=10_000, description="training texts that a peer may calibrate on")

    @field_validator("teacher")
    @classmethod
    def _teacher_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        validate(FinetuneSettings, settings, "teacher", RecipeError)
        return settings

    @field_validator("ours")
    @classmethod
    def _have_steps(cls, ours: dict[str, list[Step]]) -> dict[str, list[Step]]:
        empty = [name for name, steps in ours.items() if not steps]
        if empty:
            raise ValueError(f"'{empty[0]}' has no steps")
        return ours

    @field_validator("peers")
    @classmethod
    def _known_peers(cls, peers: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, variants in peers.items():
            if name not in PEERS:
                raise ValueError(f"unknown peer '{name}'{did_you_mean(name, PEERS)}")
            known = PEERS[name].variants
            for variant in variants:
                if variant not in known:
                    raise ValueError(f"{name} has no variant '{variant}' (known: {', '.join(known)})")
        return peers

    def quick(self) -> Suite:
        """Return this suite cut to what shows that everything runs; its numbers are no results."""
        return self.model_copy(
            update={**QUICK, "cells": self.cells[:2], "threads": self.threads[:1], "teacher": {**self.teacher, "epochs": 1}}
        )


def checked(verb: str, settings: dict[str, Any]) -> None:
    """Check a verb's settings (the errors of this project are no ValueErrors, which pydantic would collect)."""
    try:
        validate(VERBS[verb].settings, settings, verb, RecipeError)
    except RecipeError as error:
        raise ValueError(error.message) from error


def load(path: Path) -> Suite:
    """Read a suite.

    Raises:
        RecipeError: not readable, or malformed; one line for each fault.
    """
    return validate(Suite, yaml_file.read(path), path.name, RecipeError)


def task_spec(name: str, suite_file: Path, data: Path | None) -> TaskSpec:
    """Return a task of a suite, on the files of `data/NAME/` where a data folder is given.

    Raises:
        RecipeError: no such task, or of a kind that not every peer runs.
        DataError: the data folder lacks this task, or its training or evaluation file.
    """
    spec = resolve(name, suite_file.parent)
    if spec.target not in get_args(Literal["class", "value"]):
        raise RecipeError(
            f"{suite_file.name}: the task {name} is {spec.described_kind}; peers are compared on one class or value of a text"
        )
    if data is None:
        return spec
    folder = data / spec.name
    files = {split: str(path) for split in SPLITS if (path := folder / f"{split}.parquet").is_file()}
    missing = [split for split in ("train", "validation") if split not in files]
    if missing:
        raise DataError(
            f"{folder} has no {missing[0]}.parquet", f"put the task's files there, with the columns {spec.text} and '{spec.label}'"
        )
    return spec.with_files(files)
