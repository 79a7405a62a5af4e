"""The manifest of a folder, and that of a whole run."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from compress.results.checkpoints import ChosenSeeds
from compress.results.graphs import RuntimeHints


class Manifest(TypedDict):
    """What `compress.json` holds for every verb; the document of the stage is further keys."""

    schema: int
    """Version of this layout: 1."""
    kind: str
    """`checkpoint`, `onnx` or `measurement`."""
    verb: str
    """The verb."""
    stage: str
    """The stage of the recipe; the verb, if it ran alone."""
    key: NotRequired[str]
    """The cache key; missing for one of several models of a stage."""
    created: str
    """When, in UTC (ISO 8601)."""
    seconds: float
    """How long the stage took."""
    seed: int
    """The seed."""
    settings: dict[str, object]
    """Every setting, defaults included."""
    task: dict[str, object] | None
    """The task, resolved; null without a task."""
    inputs: dict[str, str]
    """Content digest of each input model by name."""
    lineage: list[dict[str, object]]
    """What was done to the model so far, oldest first, starting with the model it was derived from."""
    versions: dict[str, str | None]
    """Versions of Python, the libraries and compress."""
    plain: NotRequired[bool]
    """For a checkpoint: whether plain transformers loads it correctly (not if pruned, factorized, shared or with adapters)."""
    files: dict[str, str]
    """SHA-256 of every file of the folder except the model card (`README.md`), which its owner edits."""
    digest: str
    """Content digest of the model, or of the result of a measurement."""


class Measured(TypedDict):
    """What a measurement has besides its document."""

    output: str | None
    """The file or folder that was written, if any."""
    seconds: float
    """How long it took."""


class ModelEntry(TypedDict):
    """One of several models of a stage: the keys that recipes read."""

    folder: str
    """Its folder within the folder of the stage."""
    seed: NotRequired[int]
    """Its seed, if the stage trained with several."""


class StageManifest(Manifest):
    """A manifest with those keys of the stage's document that recipes read."""

    metrics: NotRequired[dict[str, object]]
    """Metrics by split or model."""
    runtime: NotRequired[RuntimeHints]
    """How an ONNX artifact is run."""
    models: NotRequired[list[ModelEntry]]
    """Several models of one stage."""
    chosen: NotRequired[ChosenSeeds]
    """Which models `best` and `median` stand for."""


class GateDocument(TypedDict):
    """A gate of a recipe and what was measured."""

    gate: str
    """`max_drop` or `min_speedup`."""
    limit: float
    """The limit of the recipe."""
    measured: float
    """What was measured."""
    passed: bool
    """Whether the limit is kept."""
    where: str
    """What was compared, in words."""


class RunStage(TypedDict):
    """A stage in the manifest of a run."""

    verb: str
    """The verb."""
    folder: str
    """Its folder, relative to the run folder."""
    key: str
    """Its cache key."""
    digest: str
    """Content digest of its model or result."""
    seconds: float
    """How long it took when it ran."""


class ModelReference(TypedDict):
    """The model that a recipe starts from."""

    reference: str
    """As it is written in the recipe."""
    digest: str
    """Content digest."""


class DataReference(TypedDict):
    """The data of a run."""

    task: str
    """Name of the task."""
    fingerprint: str
    """Digest of the data, the columns, the labels and the length."""


class RunDocument(TypedDict):
    """What `run` returns, and `manifest.json` of a run folder holds."""

    schema: int
    """Version of this layout: 1."""
    recipe: str
    """Name of the recipe."""
    output: str
    """The run folder."""
    created: str
    """When, in UTC (ISO 8601)."""
    git_commit: str | None
    """Commit of the checkout that compress ran from; null for an installed package."""
    machine: dict[str, object]
    """Processor, instruction sets, cores, memory, system and library versions."""
    model: ModelReference | None
    """The model that the recipe starts from."""
    data: DataReference | None
    """The data."""
    seeds: dict[str, int]
    """Seed of each stage."""
    stages: dict[str, RunStage]
    """The stages by name."""
    gates: list[GateDocument]
    """The gates of the recipe and what was measured."""
    metrics: dict[str, dict[str, object] | None]
    """`metrics` of each stage."""
    seconds: float
    """How long this run took."""
    stages_run: int
    """Stages that ran."""
    stages_skipped: int
    """Stages that were unchanged."""
    delivered: str | None
    """The model in `model/`, as it was measured: a stage, or one model of a stage (`teacher/best`, `slim/2x`)."""
    report: NotRequired[str]
    """The HTML report (added by the command line)."""
