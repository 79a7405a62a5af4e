"""The sensitivity gate: which groups of matmuls must stay float to keep the accuracy, and as few of them as possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

FloatGroups = frozenset[str]


@dataclass(frozen=True)
class SensitivityGate:
    """The outcome of the search.

    Attributes:
        floats: the groups that stay float, the most sensitive first.
        lost: points lost with them in float.
        lost_without: points lost if this group is int8 and the others stay float.
    """

    floats: list[str]
    lost: float
    lost_without: dict[str, float]


def rank_by_sensitivity(groups: Sequence[str], error: Callable[[FloatGroups], float]) -> dict[str, float]:
    """Return the share of the error that each group alone in float removes, all others int8; the largest first.

    Args:
        groups: their names.
        error: of the logits against the float graph's, with these groups in float.
    """
    total = error(frozenset())
    removed = {group: 1 - error(frozenset([group])) / total if total else 0.0 for group in groups}
    return dict(sorted(removed.items(), key=lambda item: -item[1]))


def search_float_groups(ranking: Sequence[str], points_lost: Callable[[FloatGroups], float], limit: float) -> SensitivityGate | None:
    """Keep groups in float until the loss is within the limit, then try to quantize each again, the least sensitive first.

    Args:
        ranking: groups, the most sensitive first.
        points_lost: with these groups in float.
        limit: points that may be lost.

    Returns:
        None if more is lost even with all groups in float.
    """
    floats: list[str] = []
    lost = points_lost(frozenset())
    for group in ranking:
        if lost <= limit:
            break
        floats.append(group)
        lost = points_lost(frozenset(floats))
    if lost > limit:
        return None
    lost_without: dict[str, float] = {}
    for group in floats[::-1]:
        without = points_lost(frozenset(floats) - {group})
        if without <= limit:
            floats.remove(group)
            lost = without
        else:
            lost_without[group] = without
    return SensitivityGate(floats, lost, lost_without)
