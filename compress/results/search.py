"""The documents of `auto`."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from compress.results.values import Interval, Speedup


class CandidateRow(TypedDict):
    """A model that a search tried."""

    candidate: str
    """What it is, as text."""
    model: str
    """The stage that made it, or one of several models of a stage (`slim/4x`)."""
    score: float | None
    """Main metric on validation; null if it was not evaluated."""
    drop_points: float | None
    """Points of the main metric that it loses against the baseline on validation."""
    drop_ci95: Interval | None
    """95 % interval of the drop."""
    expected_points: float | None
    """Points of drop predicted from similar models before it was measured; null if only the measurement counts."""
    corrected_points: float | None
    """Upper bound (90 %) of an artifact's drop in points, from its measured and predicted drop; null for other models."""
    latency_ms: float | None
    """Median latency of a batch in milliseconds; for a predicted speedup the baseline's latency divided by it."""
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
    """The reason, as text."""


class SearchVerdict(TypedDict):
    """The answer's scores on examples that were not used to choose it."""

    split: str
    """`test`, or `validation` if there is no test split (then the answer looks better than it is)."""
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
    """Points by which the best of so many candidates looks better than it is, if all were equally good."""
    examples_needed: int | None
    """Examples that show such a drop to be within the limit with the given confidence; null without one, or if none are enough."""


class Tradeoff(TypedDict):
    """The best candidate for another limit."""

    limit: float
    """The limit, in points or milliseconds."""
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
    """The objective, as text."""
    budget_seconds: float
    """The budget."""
    least_seconds: float
    """Seconds for the start and the verdict, which every search needs."""
    start: list[SearchStep]
    """Their steps."""
    later: list[SearchStep]
    """How the remaining time is spent: one step of each kind."""
    log: list[str]
    """The plan, as text."""


class SearchDocument(TypedDict):
    """What `auto` returns, and `auto.json` of its output holds."""

    schema: int
    """Version of this layout: 1."""
    output: str
    """The folder that was written."""
    objective: str
    """The objective, as text."""
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
    """`max_drop`, `confidence` and `target_latency_ms`; null if not set."""
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
    """The best tried candidates for other limits."""
    log: list[str]
    """The plan, the steps and the reason for stopping, as text."""
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
