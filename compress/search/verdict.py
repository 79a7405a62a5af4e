"""The verdict: the answer on examples that chose nothing, how much the choice had flattered it, and what other limits would bring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from compress.results import EvalDocument
from compress.results.search import SearchVerdict, Tradeoff
from compress.search.candidates import SearchCandidate
from compress.search.estimates import INT8_LOSS, SAFE, examples_needed, flattery
from compress.search.objective import Objective
from compress.search.trials import Trials, drop_of

AROUND = (-0.5, 0.5)  # points of another limit whose best candidate is shown
AROUND_LATENCY = (0.8, 1.25)  # factors of another latency


def judge(trials: Trials, answer: SearchCandidate) -> SearchVerdict:
    """Evaluate the answer and the baseline on the split that chose nothing; it is read here for the first time."""
    facts, objective = trials.space.facts, trials.objective
    document = cast("EvalDocument", trials.do(trials.space.add_proof(answer.model), "eval", 2 * facts.judged, must=True))
    drop, main = drop_of(document), document["main_metric"]
    baseline, judged = document["results"][0], document["results"][-1]
    comparison = judged.get("vs_first")
    chosen_from = sum(candidate.drop is not None for candidate in trials.candidates)
    needed = None
    if objective.confidence is not None and objective.max_drop is not None:
        needed = examples_needed(drop, objective.max_drop, objective.confidence)
    return {
        "split": document["split"],
        "n": document["n"],
        "score": judged["metrics"][main],
        "baseline": baseline["metrics"][main],
        "drop_points": drop.points,
        "drop_ci95": list(drop.interval),
        "p_value": comparison["p_value"] if comparison else 1.0,
        "keeps": None if objective.max_drop is None else drop.within(objective.max_drop, objective.confidence),
        "validation_drop_points": answer.drop.points if answer.drop else 0.0,
        "choices": chosen_from,
        "flattery_points": flattery(answer.drop.error if answer.drop else 0.0, chosen_from),
        "examples_needed": needed,
    }


def tradeoffs(candidates: Sequence[SearchCandidate], objective: Objective, baseline_ms: float) -> list[Tradeoff]:
    """Return what was tried that is best for limits around the one that was asked for.

    Models count by the points that they do not exceed with the probability `SAFE`, as the answer is chosen. A trained model counts if its
    size has no artifact yet, with the loss that its final form is expected to add; not for the smallest model, because only artifacts have
    a size.
    """
    finished = {candidate.gain for candidate in candidates if candidate.servable}
    known = [candidate for candidate in candidates if candidate.servable or candidate.gain not in finished]
    latency = objective.target_latency_ms
    limits = [objective.limit + step for step in AROUND] if latency is None else [latency * factor for factor in AROUND_LATENCY]
    result: list[Tradeoff] = []
    for limit in limits:
        best = _most_accurate_within(known, limit, baseline_ms) if latency is not None else _best_within(known, limit, objective)
        if limit >= 0 and best is not None and best.speed and best.drop:
            result.append({"limit": limit, "candidate": best.name, "speedup": best.speed.ratio, "drop_points": best.drop.points})
    return result


def _largest_drop(candidate: SearchCandidate) -> float:
    """Return the points that a candidate does not exceed in its final form, with the probability `SAFE`."""
    if candidate.estimate is None:
        return math.inf
    return candidate.estimate.at(SAFE).points + (0.0 if candidate.servable else INT8_LOSS)


def _best_within(known: Sequence[SearchCandidate], limit: float, objective: Objective) -> SearchCandidate | None:
    fitting = [candidate for candidate in known if _largest_drop(candidate) <= limit]
    if objective.kind == "smallest":
        sizes = {candidate.size_mb: candidate for candidate in fitting if candidate.size_mb is not None}
        return sizes[min(sizes)] if sizes else None
    return max(fitting, key=lambda candidate: candidate.speed.ratio if candidate.speed else 0.0, default=None)


def _most_accurate_within(known: Sequence[SearchCandidate], latency_ms: float, baseline_ms: float) -> SearchCandidate | None:
    fitting = [candidate for candidate in known if candidate.speed and baseline_ms / candidate.speed.ratio <= latency_ms]
    return min(fitting, key=_largest_drop, default=None)
