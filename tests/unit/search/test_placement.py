"""Which node of a cluster a stage may run on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import ResourceError
from compress.recipe.schema import Stage
from compress.search.placement import SHARE, TIMING, Demand, Node, demand_of
from tests.unit.search.recipes import build, write_document
from tests.unit.search.test_jobs import CHAIN

SMALL = Node("1", "small", 2, 0, 1, "xeon")
BIG = Node("2", "big", 8, 0, 0, "epyc")
GPU = Node("3", "gpu", 16, 4, 0, "epyc")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_document(tmp_path_factory.mktemp("inputs"), CHAIN)


def stage(document: dict[str, Any], name: str, **fields: Any) -> Stage:
    return build(document, **{name: fields}).stages[name]


def test_a_timed_stage_takes_a_whole_timing_node(document: dict[str, Any]) -> None:
    assert demand_of(stage(document, "speed"), [SMALL, BIG]) == Demand(2, 0, {TIMING: 1})
    assert not demand_of(stage(document, "speed"), [SMALL, BIG]).fits(BIG)


def test_results_that_are_bound_to_the_machine_are_made_on_one_kind(document: dict[str, Any]) -> None:
    assert demand_of(stage(document, "proof"), [SMALL, BIG]) == Demand(2, 0, {TIMING: SHARE})
    assert demand_of(stage(document, "proof"), [BIG]) == Demand(8)


def test_trainings_have_as_many_threads_everywhere(document: dict[str, Any]) -> None:
    demand = demand_of(stage(document, "teacher"), [SMALL, BIG])
    assert demand == Demand(2)
    assert demand.fits(SMALL)
    assert demand.fits(BIG)


def test_what_can_use_a_gpu_gets_one(document: dict[str, Any]) -> None:
    auto = stage(document, "teacher", device="auto")
    assert demand_of(auto, [SMALL, GPU]) == Demand(4, 1)
    assert demand_of(auto, [SMALL, BIG]) == Demand(2)
    assert demand_of(stage(document, "teacher"), [SMALL, GPU]) == Demand(2)  # device cpu


def test_a_gpu_goes_before_the_kind_of_machine_unless_something_is_timed(document: dict[str, Any]) -> None:
    assert demand_of(stage(document, "slim", device="cuda"), [SMALL, GPU]) == Demand(4, 1)
    assert demand_of(stage(document, "slim", device="auto"), [SMALL, GPU]) == Demand(2, 0, {TIMING: SHARE})
    with pytest.raises(ResourceError, match="needs a GPU, and no node with the resource timing has one"):
        demand_of(stage(document, "speed", device="cuda"), [SMALL, GPU])
    with pytest.raises(ResourceError, match="needs a GPU, and no node has one"):
        demand_of(stage(document, "teacher", device="cuda"), [SMALL, BIG])


def test_timing_needs_nodes_of_one_kind(document: dict[str, Any]) -> None:
    with pytest.raises(ResourceError, match="no node of the cluster has the resource 'timing'"):
        demand_of(stage(document, "speed"), [BIG])
    other = Node("4", "other", 2, 0, 1, "epyc")
    with pytest.raises(ResourceError, match="nodes small and other"):
        demand_of(stage(document, "speed"), [SMALL, other])
    assert demand_of(stage(document, "teacher"), [SMALL, other]) == Demand(2)


def test_a_timed_stage_is_alone_on_the_largest_of_its_nodes(document: dict[str, Any], tmp_path: Path) -> None:
    larger = Node("5", "larger", 4, 0, 1, "xeon")
    assert demand_of(stage(document, "speed"), [SMALL, larger]).cpus == 4
