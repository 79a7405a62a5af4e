"""What `auto` returns."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from compress.results.values import Interval, Speedup


class CandidateRow(TypedDict):
    """A model that a search tried."""

    candidate: str
    """What it is, in words."""
    model: str
    """The stage that made it, or one of several models of a stage (`slim/4x`)."""
    score: float | None
    """Main metric on validation; null if it was not evaluated."""
    drop_points: float | None
    """Points of the main metric that it loses against the baseline on validation."""
    drop_ci95: Interval | None
    """95 % interval of the drop."""
    expected_points: float | None
    """Points that its family let expect before it was measured; null if only the measurement counts."""
    corrected_points: float | None
    """Points that an artifact does not exceed with a probability of 90 %, by what was measured and expected; null for others."""
    latency_ms: float | None
    """Median latency of a batch in milliseconds, as it was timed; of a predicted speedup the baseline's divided by it."""
    speedup: float | None
    """Speedup over the baseline in PyTorch fp32; predicted if it has no interval."""
    speedup_ci95: Interval | None
    """95 % interval of the speedup; null if it was predicted from the costs of its shape."""
    size_mb: float | None
    """Size of the artifact in MB (10^6 bytes); null for a model that is no artifact."""
    seconds: float
    """How long its own stages took when they ran."""
    verdict: str
    """`answer`, `kept` (it keeps the limit) or `dropped`."""
    why: str
    """Why, in words."""


class SearchVerdict(TypedDict):
    """The answer on examples that chose nothing."""

    split: str
    """`test`, or `validation` if there is no other (then it flatters the answer)."""
    n: int
    """Examples."""
    score: float
    """Main metric of the answer."""
    baseline: float
    """Main metric of the baseline."""
    drop_points: float
    """Points lost."""
    drop_ci95: Interval
    """95 % interval of the drop."""
    p_value: float
    """p value of the paired test."""
    keeps: bool | None
    """Whether the drop is within `max_drop` (with `confidence`, with this probability); null without an accuracy budget."""
    validation_drop_points: float
    """The drop on validation, where the answer was chosen."""
    choices: int
    """Candidates that it was chosen from."""
    flattery_points: float
    """By how much a choice of the best among so many flatters, if all were equally good."""
    examples_needed: int | None
    """Examples that would show with the confidence that such a drop is within the limit; null if none would, or nothing was asked."""


class Tradeoff(TypedDict):
    """What another limit would bring."""

    limit: float
    """The limit: points, or milliseconds."""
    candidate: str
    """The best candidate that was tried for it."""
    speedup: float
    """Its speedup."""
    drop_points: float
    """Its drop on validation."""


class SearchStep(TypedDict):
    """A step of a search that has not begun."""

    what: str
    """What it does."""
    seconds: float
    """What it is expected to take; 0 if an earlier search has done it."""
    stored: bool
    """Whether an earlier search has done it."""


class SearchPlan(TypedDict):
    """What `auto --dry-run` prints."""

    output: str
    """The folder that would be written."""
    objective: str
    """What is asked for, in words."""
    budget_seconds: float
    """The budget."""
    least_seconds: float
    """What the start and the verdict take, which every search needs."""
    start: list[SearchStep]
    """Their steps."""
    later: list[SearchStep]
    """What the rest of the time is spent on, as far as it goes: one step of each kind."""
    log: list[str]
    """The plan in words."""


class SearchDocument(TypedDict):
    """What `auto` returns, and `auto.json` of its output holds."""

    schema: int
    """Version of this layout: 1."""
    output: str
    """The folder that was written."""
    objective: str
    """What was asked for, in words."""
    kept: bool
    """Whether the answer keeps what was asked for, on validation."""
    interrupted: bool
    """Whether the search was stopped early (Ctrl-C)."""
    task: str
    """Name of the task."""
    metric: str
    """The main metric."""
    baseline_score: float
    """Main metric of the baseline on validation."""
    baseline_ms: float
    """Its latency in PyTorch fp32: the median of its timings."""
    limit: dict[str, float | None]
    """`max_drop`, `confidence` and `target_latency_ms`; null for what was not asked."""
    serving: dict[str, int | str]
    """The serving point: `batch_size`, `seq_len`, `threads`, `runtime`."""
    answer: CandidateRow
    """The model in `model/`."""
    speedup: Speedup
    """Its speedup over the baseline in PyTorch fp32."""
    verdict: SearchVerdict | None
    """The answer on examples that chose nothing; null if the search was stopped before."""
    candidates: list[CandidateRow]
    """Everything that was tried."""
    tradeoffs: list[Tradeoff]
    """What other limits would bring, by what was tried."""
    log: list[str]
    """The plan, the steps and the stop, in words."""
    budget_seconds: float
    """The budget."""
    spent_seconds: float
    """Wall time of the search, resumed parts included."""
    reused_seconds: float
    """Time that stages of earlier searches had taken, which this one reused."""
    machine: dict[str, object]
    """Processor, instruction sets, cores, memory, system and library versions."""
    metrics: dict[str, float]
    """`score`, `speedup` and `latency_ms` of the answer."""
    seconds: float
    """How long this call took."""
    report: NotRequired[str]
    """The HTML report."""
