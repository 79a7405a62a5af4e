"""The sensitivity gate: which groups of matmuls stay float so that the accuracy holds, and as few of them as it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Floats = frozenset[str]


@dataclass(frozen=True)
class Gate:
    """The groups that stay float, most sensitive first, the drop with them, and the drop without each of them."""

    floats: list[str]
    drop: float
    without: dict[str, float]


def sensitivities(groups: Sequence[str], error: Callable[[Floats], float]) -> dict[str, float]:
    """Return the share of the error that keeping each group in float, all others int8, takes away; the largest first.

    Args:
        groups: their names.
        error: of the logits against the float graph's, with these groups in float.
    """
    everything = error(frozenset())
    found = {group: 1 - error(frozenset([group])) / everything if everything else 0.0 for group in groups}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def search_float_groups(ranking: Sequence[str], drop: Callable[[Floats], float], limit: float) -> Gate | None:
    """Add groups back in float until the drop is within the limit, then try to take each back, the least sensitive first.

    Args:
        ranking: groups, the most sensitive first.
        drop: points lost with these groups in float.
        limit: points that may be lost.

    Returns:
        None where even all groups in float lose more.
    """
    floats: list[str] = []
    lost = drop(frozenset())
    for group in ranking:
        if lost <= limit:
            break
        floats.append(group)
        lost = drop(frozenset(floats))
    if lost > limit:
        return None
    without: dict[str, float] = {}
    for group in floats[::-1]:
        fewer = frozenset(floats) - {group}
        tried = drop(fewer)
        if tried <= limit:
            floats.remove(group)
            lost = tried
        else:
            without[group] = tried
    return Gate(floats, lost, without)
