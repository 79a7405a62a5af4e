"""Groups of neighbouring layers that share weights: given, equal, or found by a greedy search."""

from __future__ import annotations

import re
from collections.abc import Callable

from compress.core.errors import UsageError
from compress.models.sharing import Owners

EXAMPLE = "write ranges from 0 on, such as 0-1,2-3,4-5"


def parse_groups(text: str, layers: int) -> Owners:
    """Parse groups such as `0-1,2-4`: ascending, disjoint ranges of layers; a layer in no range keeps its own weights.

    >>> parse_groups("0-1,3-4", 6)
    (0, 0, 2, 3, 3, 5)

    Raises:
        UsageError: another format, or groups that share nothing.
    """
    owners = list(range(layers))
    free = 0
    for part in text.replace(" ", "").split(","):
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part)
        if match is None:
            raise UsageError(f"'{part[:80]}' in the groups '{text[:80]}' is not a range of layers", EXAMPLE)
        first, last = int(match[1]), int(match[2] or match[1])
        if not free <= first <= last < layers:
            raise UsageError(f"the group {part} must follow those before it and lie within the model's layers 0 to {layers - 1}", EXAMPLE)
        owners[first : last + 1] = [first] * (last + 1 - first)
        free = last + 1
    if owners == list(range(layers)):
        raise UsageError(f"the groups '{text[:80]}' share nothing", EXAMPLE)
    return tuple(owners)


def equal_groups(layers: int, count: int) -> Owners:
    """Return `count` groups of neighbours, as equal as possible, the first ones larger.

    >>> equal_groups(6, 3), equal_groups(7, 3)
    ((0, 0, 2, 2, 4, 4), (0, 0, 0, 3, 3, 5, 5))

    Raises:
        UsageError: at least as many groups as layers.
    """
    check_group_count(layers, count)
    owners: list[int] = []
    for number in range(count):
        size = layers // count + (number < layers % count)
        owners += [len(owners)] * size
    return tuple(owners)


def check_group_count(layers: int, count: int) -> None:
    """Refuse a number of groups with which no layers share weights.

    Raises:
        UsageError: it is not smaller than the number of layers.
    """
    if count >= layers:
        raise UsageError(f"{count} copies for {layers} layers share nothing", f"give --layers {max(1, layers // 2)}, say")


def merge_group(owners: Owners, position: int) -> Owners:
    """Return groups with the one that starts at layer `position` merged into the group before it.

    >>> merge_group((0, 0, 2, 3), 2)
    (0, 0, 0, 3)
    """
    before = owners[position - 1]
    return tuple(before if owner == position else owner for owner in owners)


def search_groups(
    layers: int, count: int, loss_of: Callable[[Owners], float], allowed: Callable[[Owners], bool], advance: Callable[[], None]
) -> Owners:
    """Merge neighbouring groups, one pair at a time, each time the pair with the least loss, until `count` remain.

    Args:
        layers: number of layers of the model.
        count: number of groups to end with.
        loss_of: the loss of a model with given groups.
        allowed: whether the layers of each group can share weights.
        advance: called after each merge.

    Raises:
        UsageError: no pair can be merged.
    """
    check_group_count(layers, count)
    owners = tuple(range(layers))
    while len(set(owners)) > count:
        starts = sorted(set(owners))[1:]
        candidates = [candidate for candidate in (merge_group(owners, start) for start in starts) if allowed(candidate)]
        if not candidates:
            raise UsageError(
                f"the layers' shapes differ so that they cannot form {count} groups, only {len(set(owners))}",
                "share a dense model, or prune --uniform",
            )
        owners = min(candidates, key=loss_of)
        advance()
    return owners
