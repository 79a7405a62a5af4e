"""The choice of the answer among the artifacts of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from compress.search.candidates import SearchCandidate
from compress.search.estimates import NORMAL, Drop, shrunken
from compress.search.race import SAFE
from compress.search.trials import Trials

LIKELY = 0.6  # probability with which an artifact must keep the limit, unless another one is asked for


def correct_drops(candidates: Sequence[SearchCandidate]) -> None:
    """Give every artifact a better estimate of its drop.

    That of a family's member is drawn towards the family's curve, and counts with the probability `LIKELY`, because the best of many looks
    better than it is. A model of another kind has no neighbours to be compared with, and its
    best epoch was chosen on the same examples: the upper end of its interval counts, with the probability `SAFE`. So it does for what was
    made of a size before it was trained on: it lost more because it was trained less, which says nothing about the curve.
    """
    family: dict[str, tuple[SearchCandidate, Drop, float]] = {}  # by the size's name
    for candidate in candidates:
        if candidate.servable and candidate.drop is not None:
            drop = candidate.drop
            candidate.corrected = _at(SAFE, drop)
            if candidate.gain is not None:
                family[candidate.name] = candidate, drop, candidate.gain
    corrected = shrunken([drop for _, drop, _ in family.values()], [gain for _, _, gain in family.values()])
    for (candidate, _, _), drop in zip(family.values(), corrected, strict=True):
        candidate.corrected = _at(LIKELY, drop)


def _at(probability: float, drop: Drop) -> Drop:
    """Return a drop moved to the points that it does not exceed with this probability."""
    return Drop(drop.points + NORMAL.inv_cdf(probability) * drop.error, drop.error, drop.n)


def keeps_limit(candidate: SearchCandidate, trials: Trials) -> bool:
    """Return whether an artifact keeps the limit: by its corrected drop, or with the confidence that was asked for.

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
    objective, drop, corrected = trials.objective, candidate.drop, candidate.corrected
    candidate.verdict = "dropped"
    if objective.target_latency_ms is not None or drop is None or corrected is None:
        candidate.why = objective.excess(drop, trials.latency_ms(candidate.speed))
    elif candidate.gain is None:
        chance = 100 * drop.probability(objective.limit)
        candidate.why = f"within the limit with {chance:.0f} % only, and there are no similar models to compare it with"
    else:
        chance = 100 * _at(1 - LIKELY, corrected).probability(objective.limit)  # from the upper end back to the estimate
        candidate.why = f"within the limit with {chance:.0f} % only, by what similar models lost"


def choose(trials: Trials) -> tuple[SearchCandidate, bool]:
    """Return the best artifact, and whether it keeps the limit; if none does, the nearest."""
    objective, artifacts = trials.objective, [candidate for candidate in trials.candidates if candidate.servable]
    correct_drops(artifacts)

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
