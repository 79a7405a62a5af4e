"""The goal of a search: its objective, the accuracy budget, and the conditions under which the model is served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress.search.estimates import Drop
from compress.settings.auto import AutoSettings

ObjectiveKind = Literal["fastest", "most accurate", "smallest"]


@dataclass(frozen=True)
class Objective:
    """What is optimised, and within which limit.

    Attributes:
        kind: `fastest` and `smallest` have the limit `max_drop`, `most accurate` has `target_latency_ms`.
        max_drop: points of the main metric that may be lost against the baseline.
        target_latency_ms: the longest latency of a batch.
        confidence: the probability with which the drop must be within `max_drop`; None: the best estimate counts.
    """

    kind: ObjectiveKind
    max_drop: float | None = None
    target_latency_ms: float | None = None
    confidence: float | None = None

    @staticmethod
    def of(settings: AutoSettings) -> Objective:
        """Return the objective of the settings."""
        kind: ObjectiveKind = "most accurate" if settings.max_drop is None else "smallest" if settings.smallest else "fastest"
        return Objective(kind, settings.max_drop, settings.target_latency_ms, settings.confidence)

    def keeps(self, drop: Drop | None, latency_ms: float | None) -> bool:
        """Return whether a model is within the limit; False if what the limit needs was not measured."""
        if self.target_latency_ms is not None:
            return latency_ms is not None and latency_ms <= self.target_latency_ms
        return drop is not None and drop.within(self.limit, self.confidence)

    def excess(self, drop: Drop | None, latency_ms: float | None) -> str:
        """Return the reason why a model is not within the limit, as text."""
        if self.target_latency_ms is not None:
            return "not timed" if latency_ms is None else f"{latency_ms:.3g} ms at the usual load are more than {self.target_latency_ms:g}"
        if drop is None:
            return "not evaluated"
        if drop.points <= self.limit:
            return f"the drop is within the limit with {100 * drop.probability(self.limit):.0f} % only"
        return f"{drop.points:.2f} points lost are more than {self.limit:g}"

    @property
    def limit(self) -> float:
        """Points that may be lost; 100 without an accuracy budget."""
        return 100.0 if self.max_drop is None else self.max_drop

    def describe(self) -> str:
        """Return the objective as text."""
        if self.target_latency_ms is not None:
            return f"the most accurate model within {self.target_latency_ms:g} ms"
        sure = f", with {100 * self.confidence:g} % confidence" if self.confidence else ""
        return f"the {self.kind} model that loses at most {self.limit:g} {'point' if self.limit == 1 else 'points'}{sure}"


@dataclass(frozen=True)
class ServingPoint:
    """Where the model will run.

    Attributes:
        batch_size: texts of a batch.
        seq_len: tokens of a text.
        threads: threads.
        runtime: `onnxruntime`, `openvino`, or `auto` for the faster of them.
    """

    batch_size: int
    seq_len: int
    threads: int
    runtime: str

    def describe(self) -> str:
        """Return the point as text."""
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"batch {self.batch_size}, {self.seq_len} tokens, {threads}"
