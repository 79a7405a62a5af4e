"""What a search knows of each model that it tried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compress.results.search import CandidateRow
from compress.search.estimates import SAFE, Drop, combined

Verdict = Literal["answer", "kept", "dropped"]


@dataclass(frozen=True)
class Speed:
    """How many times as fast as the baseline in PyTorch fp32 a model is, at the serving point.

    Attributes:
        ratio: the speedup.
        interval: its 95 % interval; None if it was predicted from the costs of the model's shape.
        latency_ms: the median latency of a batch in the same rounds; None if it was predicted.
    """

    ratio: float
    interval: tuple[float, float] | None = None
    latency_ms: float | None = None

    def shown_ms(self, baseline_ms: float) -> float:
        """Return the latency to show: as it was measured, as in the model card; of a prediction the baseline's divided by the ratio."""
        return baseline_ms / self.ratio if self.latency_ms is None else self.latency_ms


@dataclass
class SearchCandidate:
    """A model that was tried.

    Attributes:
        name: for people.
        model: the stage that made it, or one of several models of a stage.
        gain: the larger, the more the model was reduced. None: it belongs to no family.
        drop: on validation; None if it was not evaluated.
        speed: measured if the model can be served, else predicted; None if unknown.
        size_mb: of an artifact that can be served, else None.
        seconds: that its own stages took.
        verdict: what became of it.
        why: the reason, in words.
        expected: the drop that its family let expect; None: only what was measured counts.
    """

    name: str
    model: str
    gain: float | None = None
    drop: Drop | None = None
    speed: Speed | None = None
    size_mb: float | None = None
    seconds: float = 0.0
    verdict: Verdict = "kept"
    why: str = ""
    expected: Drop | None = None

    @property
    def estimate(self) -> Drop | None:
        """The best estimate of its drop, from what was measured and what was expected."""
        return None if self.drop is None else combined(self.drop, self.expected)

    @property
    def corrected(self) -> Drop | None:
        """Of an artifact, its drop moved to the points that it does not exceed with the probability `SAFE`: by this it is chosen."""
        return self.estimate.at(SAFE) if self.servable and self.estimate else None

    @property
    def servable(self) -> bool:
        """Whether it is an artifact that was evaluated and timed."""
        return self.size_mb is not None and self.drop is not None and self.speed is not None and self.speed.interval is not None

    def as_row(self, baseline: float, baseline_ms: float) -> CandidateRow:
        """Return the candidate as a row of the document.

        Args:
            baseline: main metric of the baseline on validation.
            baseline_ms: its latency in PyTorch fp32.
        """
        drop, speed = self.drop, self.speed
        return {
            "candidate": self.name,
            "model": self.model,
            "score": None if drop is None else baseline - drop.points / 100,
            "drop_points": None if drop is None else drop.points,
            "drop_ci95": None if drop is None else list(drop.interval),
            "expected_points": None if self.expected is None else self.expected.points,
            "corrected_points": None if self.corrected is None else self.corrected.points,
            "latency_ms": None if speed is None else speed.shown_ms(baseline_ms),
            "speedup": None if speed is None else speed.ratio,
            "speedup_ci95": None if speed is None or speed.interval is None else list(speed.interval),
            "size_mb": self.size_mb,
            "seconds": self.seconds,
            "verdict": self.verdict,
            "why": self.why,
        }
