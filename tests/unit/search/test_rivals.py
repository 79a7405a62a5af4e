"""Rivals of the pruned family: which there are, and what is expected of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compress.search.costs import SearchCosts
from compress.search.estimates import Drop
from compress.search.race import Arm
from compress.search.rivals import BEYOND, drop_of_family, factorized_arms, student_arms, student_specs
from compress.search.shape_clock import ShapeFacts
from compress.search.space import Space
from tests.unit.search.landscape import FACTS, SERVING


def family(smallest: bool = False) -> list[Arm]:
    """Return three sizes."""
    return [
        Arm(name, f"slim/{name}", 1 / params if smallest else gain, 0.5, Drop(points, 0.5, 872))
        for name, gain, params, points in (("2x", 8.0, 17e6, 0.5), ("4x", 16.0, 14e6, 2.0), ("8x", 32.0, 13e6, 6.0))
    ]


def test_students_are_shallower_narrower_and_without_layers() -> None:
    assert list(student_specs(FACTS)) == ["layers=1", "layers=2", "layers=3", "layers=4,hidden=192,ffn=384", "bilstm"]
    assert "bilstm" not in student_specs(replace(FACTS, pairs=True))
    assert "bilstm" not in student_specs(replace(FACTS, target="tags"))
    assert list(student_specs(replace(FACTS, target="vector"))) == ["layers=1", "layers=2", "layers=3"]
    assert list(student_specs(replace(FACTS, layers=12, hidden=768)))[:3] == ["layers=2", "layers=4", "layers=6"]


def test_students_are_expected_to_lose_more_than_the_family() -> None:
    shapes = {"layers=2": ShapeFacts(4.0, 15_000_000), "bilstm": ShapeFacts(12.0, 10_000_000)}
    kinds, costs = student_specs(FACTS), SearchCosts()
    shallow, lstm = student_arms(shapes, kinds, family(), 4.0, FACTS, costs)
    assert (shallow.gain, lstm.gain) == (16.0, 48.0)
    assert shallow.drop is not None
    assert lstm.drop is not None
    assert shallow.drop.points == pytest.approx(costs.recovered(2.0, 0, 4) + BEYOND["shallow"])
    assert lstm.drop.points == BEYOND["bilstm"]
    assert shallow.chance(1.0, costs, 8) < 0.1 < shallow.chance(4.0, costs, 8)
    assert shallow.size == pytest.approx(0.5)
    alone = student_arms(shapes, kinds, [], 4.0, FACTS, costs)[0]
    assert alone.drop is not None
    assert alone.drop.points == BEYOND["shallow"]
    smallest = student_arms(shapes, kinds, [], 4.0, FACTS, costs, smallest=True)
    assert [arm.name for arm in smallest] == ["layers=2", "bilstm"]
    assert smallest[0].gain == 1 / 15e6


def test_the_familys_curve_is_interpolated_and_extrapolated() -> None:
    assert drop_of_family(family(), 16.0) == pytest.approx(2.0)
    assert 0.5 < drop_of_family(family(), 11.0) < 2.0
    assert drop_of_family(family(), 64.0) == pytest.approx(10.0)
    assert drop_of_family(family()[:1], 99.0) == 0.5


def test_sizes_are_factorized_where_their_files_get_smaller() -> None:
    space = Space(FACTS, SERVING, trains_baseline=True)
    sizes = family(smallest=True)
    arms = factorized_arms(space, sizes, 30_522)
    assert [arm.name for arm in arms] == ["2x, rank 128", "4x, rank 128", "8x, rank 128"]
    assert all(arm.gain > size.gain for arm, size in zip(arms, sizes, strict=True))
    assert space.stages[arms[0].start] == {"do": "factorize", "from": "words-2x", "embedding_rank": 128, "device": "auto"}
    assert arms[0].before == (("words-2x", "quick"), ("rank128-2x", "factorize"))
    assert factorized_arms(space, sizes, 500) == []
