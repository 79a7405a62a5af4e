"""What `sweep` returns and writes."""

from __future__ import annotations

from typing import TypedDict

from compress.results.checkpoints import Spread
from compress.results.runs import GateDocument
from compress.results.values import Interval


class SweepFailure(TypedDict):
    """Why a point is not finished."""

    stage: str
    """The stage that failed; empty if the run folder could not be written."""
    message: str
    """What failed."""
    hint: str | None
    """What to do next."""
    exit_code: int
    """Exit code of the failure."""


class SweepPoint(TypedDict):
    """One recipe of the sweep. What was not measured is null."""

    values: dict[str, object]
    """Values of the grid by path."""
    seed: int
    """The seed."""
    folder: str | None
    """Its run folder, relative to the output; null if the point failed."""
    model: str | None
    """The model in `model/` of the run folder, which the following keys describe."""
    digest: str | None
    """Content digest of that model."""
    score: float | None
    """Main metric in the last evaluation; without one, on validation as the model's stage measured it."""
    ci95: Interval | None
    """Its 95 % interval."""
    delta_points: float | None
    """Points of the main metric more than the first evaluated model."""
    p50_ms: float | None
    """Median latency in the first cell of the last benchmark."""
    speedup: float | None
    """Speedup over the first benchmarked model in that cell."""
    size_mb: float | None
    """Weights on disk."""
    params: int | None
    """Parameters."""
    gates: list[GateDocument]
    """The gates of the recipe and what was measured."""
    seconds: float
    """Work of its finished stages, shared ones included."""
    failure: SweepFailure | None
    """Why it is not finished; null if it is."""


class SweepSetting(TypedDict):
    """The points of one combination of values, over the seeds. A spread is null if no point has the value."""

    values: dict[str, object]
    """Values of the grid by path."""
    finished: int
    """Points that are finished."""
    failed: int
    """Points that failed."""
    gates_missed: int
    """Finished points that missed a gate."""
    score: Spread | None
    """Main metric."""
    delta_points: Spread | None
    """Points of the main metric more than the first evaluated model."""
    p50_ms: Spread | None
    """Median latency in ms."""
    speedup: Spread | None
    """Speedup over the first benchmarked model."""
    size_mb: Spread | None
    """Weights on disk."""
    params: Spread | None
    """Parameters."""


class SweepStage(TypedDict):
    """A stage that ran or was in the store: one entry however many points share it."""

    id: str
    """Names it in `needs`."""
    stage: str
    """Its name in the recipe."""
    verb: str
    """The verb."""
    needs: list[str]
    """The stages that it reads."""
    points: int
    """Points that share it."""
    timed: bool
    """Whether it measures time, so that it has a machine to itself."""
    ran: bool
    """Whether it ran in this call; else it was in the store."""
    seconds: float | None
    """How long it took when it ran; null if it failed."""
    folder: str | None
    """Its folder in the store; null if it failed."""
    digest: str | None
    """Content digest of its model or result; null if it failed."""
    where: str
    """Host and process that ran it; empty for this process."""


class SweepDocument(TypedDict):
    """What `sweep` returns, and `sweep.json` in its output holds."""

    schema: int
    """Version of this layout: 1."""
    recipe: str
    """Name of the recipe."""
    output: str
    """The folder that was written."""
    store: str
    """The folder with the stages."""
    created: str
    """When, in UTC (ISO 8601)."""
    machine: dict[str, object]
    """The machine that started the sweep: processor, instruction sets, cores, memory, system and library versions."""
    grid: dict[str, list[object]]
    """Values by path."""
    seeds: list[int]
    """The seeds."""
    metric: str | None
    """The main metric."""
    baseline: str | None
    """The first evaluated model, which `delta_points` compares with."""
    settings: list[SweepSetting]
    """Mean and spread over the seeds, one entry for each combination of values."""
    points: list[SweepPoint]
    """One entry for each combination and seed."""
    stages: list[SweepStage]
    """The stages, inputs first."""
    metrics: dict[str, dict[str, float]]
    """Mean of each measured value by setting."""
    seconds: float
    """How long this call took."""
