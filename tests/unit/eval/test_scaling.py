"""The simulation of sweeps on many nodes."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest
import yaml

from eval.scaling import Work, critical_path, makespan, recorded
from tests.unit.search.recipes import write_document

CHAINS = {f"{kind}{number}": Work(2.0, (f"a{number}",) if kind == "b" else ()) for number in range(4) for kind in "ab"}


@pytest.mark.parametrize(("nodes", "seconds"), [(1, 16.0), (2, 8.0), (4, 4.0), (64, 4.0)])
def test_independent_chains(nodes: int, seconds: float) -> None:
    assert makespan(CHAINS, nodes) == seconds


def test_overhead_counts_once_per_stage() -> None:
    assert makespan(CHAINS, 1, overhead=0.5) == 20.0
    assert makespan(CHAINS, 64, overhead=0.5) == 5.0


def test_timed_stages_run_on_timing_nodes_only() -> None:
    works = {str(number): Work(1.0, timed=True) for number in range(4)} | {f"t{number}": Work(1.0) for number in range(4)}
    assert makespan(works, 4, timers=1) == 4.0
    assert makespan(works, 4) == 2.0


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Work]:
    works: dict[str, Work] = {}
    for number in range(draw(st.integers(1, 12))):
        needs = draw(st.lists(st.sampled_from(sorted(works)), max_size=3, unique=True)) if works else []
        works[str(number)] = Work(draw(st.integers(1, 9)), tuple(needs), draw(st.booleans()))
    return works


@hypothesis.given(graphs(), st.integers(1, 8))
def test_the_bounds_of_list_scheduling(works: dict[str, Work], nodes: int) -> None:
    total, chain, span = sum(work.seconds for work in works.values()), critical_path(works), makespan(works, nodes)
    assert max(chain, total / nodes) <= span <= total / nodes + (1 - 1 / nodes) * chain + 1e-9  # Graham
    assert makespan(works, 1) == total


def test_a_recorded_sweep_is_read(tmp_path: Path) -> None:
    stages = [
        {"id": "x", "needs": [], "seconds": 3.0, "timed": False},
        {"id": "y", "needs": ["x"], "seconds": 1.0, "timed": True},
        {"id": "failed", "needs": ["x"], "seconds": None, "timed": True},
    ]
    (tmp_path / "sweep.json").write_text(json.dumps({"points": [], "stages": stages}), encoding="utf-8")
    assert recorded(tmp_path / "sweep.json", [], []) == {"x": Work(3.0), "y": Work(1.0, ("x",), True)}


def test_a_recorded_run_gives_the_times_of_a_sweep(tmp_path: Path) -> None:
    document = write_document(tmp_path / "in")
    document["stages"] = {name: {**stage, "seed": 3} for name, stage in document["stages"].items()}  # as a run folder has it
    (tmp_path / "recipe.resolved.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    seconds = {"teacher": 10.0, "slim": 5.0, "proof": 1.0}
    manifest = {"stages": {name: {"seconds": value} for name, value in seconds.items()}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    works = recorded(tmp_path / "manifest.json", ["slim.target_flops=0.5,0.25"], [0, 1])
    assert sorted(work.seconds for work in works.values()) == [1.0] * 4 + [5.0] * 4 + [10.0] * 2
    assert critical_path(works) == 16.0
