"""The choice of the answer among the artifacts of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compress.search.candidates import SearchCandidate
from compress.search.estimates import NORMAL, Drop, shrunken
from compress.search.race import SAFE
from compress.search.trials import Trials


def correct_drops(candidates: Sequence[SearchCandidate]) -> None:
    """Give every artifact a better estimate of its drop.

    That of a family's member is drawn towards the family's curve. A model of another kind has no neighbours to be compared with, and its
    best epoch was chosen on the same examples: the upper end of its interval counts, with the probability `SAFE`.
    """
    family: list[tuple[SearchCandidate, Drop, float]] = []
    for candidate in candidates:
        if candidate.servable and candidate.drop is not None:
            drop = candidate.drop
            candidate.corrected = Drop(drop.points + NORMAL.inv_cdf(SAFE) * drop.error, drop.error, drop.n)
            if candidate.gain is not None:
                family.append((candidate, drop, candidate.gain))
    for (candidate, _, _), drop in zip(family, shrunken([entry[1] for entry in family], [entry[2] for entry in family]), strict=True):
        candidate.corrected = drop


def choose(trials: Trials) -> tuple[SearchCandidate, bool]:
    """Return the best artifact, and whether it keeps the limit; if none does, the nearest."""
    objective, artifacts = trials.objective, [candidate for candidate in trials.candidates if candidate.servable]
    correct_drops(artifacts)

    def keeps(candidate: SearchCandidate) -> bool:
        drop = candidate.drop if objective.confidence else candidate.corrected
        return objective.keeps(drop, trials.latency_ms(candidate.speed))

    def lost(candidate: SearchCandidate) -> float:
        return candidate.corrected.points if candidate.corrected else math.inf

    def ratio(candidate: SearchCandidate) -> float:
        return candidate.speed.ratio if candidate.speed else 0.0

    ranks = {
        "fastest": lambda candidate: -ratio(candidate),
        "smallest": lambda candidate: candidate.size_mb or math.inf,
        "most accurate": lost,
    }
    kept = [candidate for candidate in artifacts if keeps(candidate)]
    if kept:
        return min(kept, key=ranks[objective.kind]), True
    nearest = (lambda candidate: -ratio(candidate)) if objective.kind == "most accurate" else lost
    return min(artifacts, key=nearest), False
