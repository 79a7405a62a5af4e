"""The words of a search: its plan, a line for each candidate, its stop."""

from __future__ import annotations

import math

from compress.core import console
from compress.search.candidates import SearchCandidate

NAME = 30  # characters of a candidate's name in its line


def candidate_line(candidate: SearchCandidate, baseline: float, baseline_ms: float) -> str:
    """Return what is known of a candidate in one line: accuracy with the drop, latency, speedup, seconds, what became of it."""
    drop, speed = candidate.drop, candidate.speed
    parts = []
    if drop is not None and not math.isnan(baseline):
        parts.append(f"{100 * baseline - drop.points:6.2f}, {drop.describe()}")
    if speed is not None:
        about = "" if speed.interval else "about "
        parts.append(f"{about}{speed.shown_ms(baseline_ms):.3g} ms, {about}{speed.ratio:.1f}x")
    if candidate.seconds:
        parts.append(console.duration(candidate.seconds))
    return f"  {candidate.name:{NAME}} " + "; ".join(parts) + f": {candidate.verdict}, {candidate.why}"
