"""Groups of layers: read, made equal, or found."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import UsageError
from compress.share.groups import equal_groups, merge_group, parse_groups, search_groups


@pytest.mark.parametrize(
    ("text", "owners"),
    [
        ("0-1,2-3,4-5", (0, 0, 2, 2, 4, 4)),
        ("0-5", (0, 0, 0, 0, 0, 0)),
        ("1-2", (0, 1, 1, 3, 4, 5)),
        ("0, 1 - 2, 5", (0, 1, 1, 3, 4, 5)),
    ],
)
def test_groups_are_read(text: str, owners: tuple[int, ...]) -> None:
    assert parse_groups(text, 6) == owners


@pytest.mark.parametrize("text", ["", "auto", "0-", "1-0", "0-1,1-2", "2-3,0-1", "0-6", "0,1,2", "0-1;2-3", "-1-2", "0-1,", "9" * 99])
def test_malformed_groups_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_groups(text, 6)
    assert "0-1,2-3" in (caught.value.hint or "")
    assert len(caught.value.message) < 250


@given(st.integers(2, 40), st.data())
def test_equal_groups_differ_by_one_at_most(layers: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, layers - 1))
    owners = equal_groups(layers, count)
    sizes = [owners.count(first) for first in sorted(set(owners))]
    assert (len(owners), len(sizes)) == (layers, count)
    assert max(sizes) - min(sizes) <= 1
    assert list(owners) == sorted(owners)
    assert all(owners[owner] == owner for owner in owners)
    with pytest.raises(UsageError, match="share nothing"):
        equal_groups(layers, layers)


def everything(layers: int, count: int) -> list[tuple[int, ...]]:
    """All ways to cut layers into groups of neighbours."""
    found = []
    for starts in itertools.combinations(range(1, layers), count - 1):
        edges = [0, *starts, layers]
        found.append(tuple(first for first, last in itertools.pairwise(edges) for _ in range(last - first)))
    return found


@given(st.integers(2, 7), st.integers(0, 1000))
def test_one_merge_is_the_best_of_all(layers: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses = {owners: float(rng.random()) for owners in everything(layers, layers - 1)}
    found = search_groups(layers, layers - 1, losses.__getitem__, lambda owners: True, lambda: None)
    assert losses[found] == min(losses.values())


def test_costs_that_add_up_are_merge_group_the_cheapest_first() -> None:
    prices = {1: 5.0, 2: 1.0, 3: 4.0, 4: 2.0, 5: 3.0}

    def loss_of(owners: tuple[int, ...]) -> float:
        return sum(price for number, price in prices.items() if owners[number] == owners[number - 1])

    calls: list[int] = []
    assert search_groups(6, 3, loss_of, lambda owners: True, lambda: calls.append(1)) == (0, 1, 1, 3, 3, 3)
    assert len(calls) == 3
    assert loss_of((0, 1, 1, 3, 3, 3)) == min(map(loss_of, everything(6, 3)))


def test_only_allowed_groups_are_made() -> None:
    def allowed(owners: tuple[int, ...]) -> bool:
        return owners[1] == 1 and owners[2] == 2

    assert search_groups(4, 3, lambda owners: 0.0, allowed, lambda: None) == (0, 1, 2, 2)
    with pytest.raises(UsageError, match="only 3"):
        search_groups(4, 2, lambda owners: 0.0, allowed, lambda: None)


def test_a_group_joins_the_one_before() -> None:
    assert merge_group((0, 0, 2, 2, 4), 2) == (0, 0, 0, 0, 4)
    assert merge_group((0, 0, 2, 2, 4), 4) == (0, 0, 2, 2, 2)
