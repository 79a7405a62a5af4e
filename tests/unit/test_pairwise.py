"""Every pair of values is tested, with fewer rows than the full grid has."""

from __future__ import annotations

from itertools import combinations, product
from math import prod

from hypothesis import given
from hypothesis import strategies as st

from tests.pairwise import pairwise

PARAMETERS = st.lists(st.integers(1, 5), min_size=2, max_size=5).map(lambda sizes: [range(size) for size in sizes])


@given(PARAMETERS)
def test_every_pair_of_values_occurs(parameters: list[range]) -> None:
    rows = pairwise(*parameters)
    for first, second in combinations(range(len(parameters)), 2):
        assert {(row[first], row[second]) for row in rows} == set(product(parameters[first], parameters[second]))


@given(PARAMETERS)
def test_no_row_occurs_twice_and_none_is_invented(parameters: list[range]) -> None:
    rows = pairwise(*parameters)
    assert len(set(rows)) == len(rows) <= prod(map(len, parameters))
    assert set(rows) <= set(product(*parameters))


def test_three_parameters_of_six_take_few_more_rows_than_two() -> None:
    assert len(pairwise(range(6), range(6), range(6))) < 50  # of 216


def test_one_parameter_takes_each_value_once() -> None:
    assert pairwise("abc") == [("a",), ("b",), ("c",)]
