"""The verdict of a search in sentences, the same in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compress.data.metrics import describe_drop
from compress.report.formatting import metric_name, p_value
from compress.results.search import CandidateRow, SearchVerdict

Limit = Mapping[str, float | None]  # `max_drop`, `confidence`, `target_latency_ms`, as in the document of a search


def describe_points(points: float, interval: Sequence[float]) -> str:
    """Return points that are lost with their interval: `0.34 points lost [-0.8, 1.5]`; of a gain, `0.34 points gained [-0.8, 1.5]`."""
    lost = points > -0.005
    low, high = interval if lost else (-interval[1], -interval[0])
    return f"{abs(points):.2f} points {'lost' if lost else 'gained'} [{low + 0.0:.1f}, {high + 0.0:.1f}]"  # no -0.0


def choice_sentence(answer: CandidateRow, probability: float) -> str:
    """Return what is believed of the answer's loss, and why.

    Args:
        answer: the row of the answer.
        probability: with which it loses at most its `corrected_points`.
    """
    measured, expected, most = answer["drop_points"], answer["expected_points"], answer["corrected_points"]
    if measured is None or most is None:
        return f"the answer is {answer['candidate']}"
    family = "" if expected is None else f", {expected:.2f} were expected"
    return f"the answer is {answer['candidate']}: {describe_drop(measured)}{family}; with {100 * probability:.0f} % at most {most:.2f}"


def verdict_sentences(verdict: SearchVerdict, metric: str, limit: Limit) -> list[str]:
    """Return what the judging examples say, how far validation had flattered the choice, and whether the limit is exceeded.

    Args:
        verdict: of the answer.
        metric: the main metric.
        limit: what was asked for.
    """
    unseen = "which chose nothing" if verdict["split"] != "validation" else "which also chose the model: there is no other split"
    lost = describe_points(verdict["drop_points"], verdict["drop_ci95"])
    sentences = [
        f"verdict on {verdict['split']} (n = {verdict['n']:,}), {unseen}: {metric_name(metric)} {100 * verdict['score']:.2f}, baseline "
        f"{100 * verdict['baseline']:.2f}, {lost}, {_p(verdict['p_value'])}",
        f"validation said {describe_drop(verdict['validation_drop_points'])}; {_chosen(verdict)}",
    ]
    if verdict["keeps"] is False and (points := limit.get("max_drop")) is not None:
        sentences.append(_exceeded(verdict, points, limit.get("confidence")))
    return sentences


def _p(value: float) -> str:
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _chosen(verdict: SearchVerdict) -> str:
    """Return how far the number of validation can be believed (the winner's curse)."""
    if verdict["choices"] < 2:
        return "no other candidate was measured, so nothing was chosen"
    return f"it chose among {verdict['choices']} candidates, and such a choice flatters by up to {verdict['flattery_points']:.2f} points"


def _exceeded(verdict: SearchVerdict, limit: float, confidence: float | None) -> str:
    """Return that the limit is exceeded, or that it is kept with less confidence than was asked for."""
    if confidence is None:
        return f"that is more than {limit:g}, {'beyond chance' if verdict['drop_ci95'][0] > limit else 'which may be chance'}"
    sure, needed = f"{100 * confidence:g} % confidence needs", verdict["examples_needed"]
    if needed is None:
        return f"{sure} a smaller loss: no number of examples would show that {verdict['drop_points']:.2f} is at most {limit:g}"
    return f"{sure} about {needed:,} examples for a loss like this; {verdict['split']} has {verdict['n']:,}"
