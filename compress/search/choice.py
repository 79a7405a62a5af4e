"""The choice of the answer among the artifacts of a search."""

from __future__ import annotations

import math
from dataclasses import replace

from compress.search.candidates import SearchCandidate
from compress.search.estimates import SAFE
from compress.search.trials import Trials


def keeps_limit(candidate: SearchCandidate, trials: Trials) -> bool:
    """Return whether an artifact keeps the limit with the probability `SAFE`, or by its measurement alone with the one that was asked for.

    A model of no family must keep it with the probability `SAFE`, also where less was asked for.
    """
    objective, latency = trials.objective, trials.latency_ms(candidate.speed)
    if objective.confidence is None:
        return objective.keeps(candidate.corrected, latency)
    if candidate.gain is None:
        objective = replace(objective, confidence=max(SAFE, objective.confidence))
    return objective.keeps(candidate.drop, latency)


def drop_unsafe(candidate: SearchCandidate, trials: Trials) -> None:
    """Mark an artifact that looked as if it kept the limit, and say why it is not taken."""
    objective, drop, estimate = trials.objective, candidate.drop, candidate.estimate
    candidate.verdict = "dropped"
    if objective.target_latency_ms is not None or drop is None or estimate is None:
        candidate.why = objective.excess(drop, trials.latency_ms(candidate.speed))
    elif candidate.expected is None or objective.confidence is not None:
        candidate.why = f"within the limit with {100 * drop.probability(objective.limit):.0f} % only"
    else:
        chance = 100 * estimate.probability(objective.limit)
        candidate.why = f"within the limit with {chance:.0f} % only, by what was measured and what its family loses"


def choose(trials: Trials) -> tuple[SearchCandidate, bool]:
    """Return the best artifact, and whether it keeps the limit; if none does, the nearest."""
    objective, artifacts = trials.objective, [candidate for candidate in trials.candidates if candidate.servable]

    def lost(candidate: SearchCandidate) -> float:
        return candidate.corrected.points if candidate.corrected else math.inf

    def ratio(candidate: SearchCandidate) -> float:
        return candidate.speed.ratio if candidate.speed else 0.0

    ranks = {
        "fastest": lambda candidate: -ratio(candidate),
        "smallest": lambda candidate: candidate.size_mb or math.inf,
        "most accurate": lost,
    }
    kept = [candidate for candidate in artifacts if keeps_limit(candidate, trials)]
    for candidate in artifacts:
        if candidate.verdict == "kept" and candidate not in kept:
            drop_unsafe(candidate, trials)
    if kept:
        return min(kept, key=ranks[objective.kind]), True
    nearest = (lambda candidate: -ratio(candidate)) if objective.kind == "most accurate" else lost
    return min(artifacts, key=nearest), False
