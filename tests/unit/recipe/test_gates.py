"""Gates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.recipe import load as loading
from compress.recipe.gates import check_gates
from tests.unit.recipe.planning import ORDER as NAMES
from tests.unit.recipe.planning import edited

Document = dict[str, Any]


@pytest.fixture
def document(document: Document) -> Document:
    """A recipe whose evaluation and benchmark compare the same models."""
    return edited(document, "speed", **{"from": ["teacher", "int8"]})


def entry(model: str, accuracy: float = 0.0, ratio: float = 1.0, threads: int = 1) -> Document:
    """Return a model's result in an evaluation or a benchmark."""
    return {
        "model": model, "metrics": {"accuracy": accuracy}, "threads": threads, "batch_size": 1, "seq_len": 32, "lengths": "fixed",
        "speedup": {"vs": "a", "ratio": ratio, "ci95": [ratio, ratio]},
    }  # fmt: skip


def test_gates_hold_the_last_model_against_the_first_in_the_first_cell(document: Document) -> None:
    recipe = loading.build(document | {"gates": {"max_drop": 2.0, "min_speedup": 3.0}}, "x", Path("/"))
    proof = {"main_metric": "accuracy", "split": "test", "n": 9, "results": [entry("a", 0.9), entry("b", 0.1), entry("c", 0.885)]}
    speed = {"results": [entry("a"), entry("b", ratio=9), entry("c", ratio=3), entry("a", threads=2), entry("c", ratio=1, threads=2)]}
    gates = check_gates(recipe, {name: {} for name in NAMES} | {"proof": proof, "speed": speed})
    assert [(gate["gate"], gate["passed"]) for gate in gates] == [("max_drop", True), ("min_speedup", True)]
    assert gates[0]["measured"] == pytest.approx(1.5)
    assert gates[1]["measured"] == 3


@pytest.mark.parametrize(("first", "last", "limit"), [(0.9, 0.88, 2.0), (0.87, 0.86, 1.0), (0.995, 0.98, 1.5), (0.58, 0.57, 1.0)])
def test_a_drop_of_exactly_the_limit_passes(document: Document, first: float, last: float, limit: float) -> None:
    recipe = loading.build(document | {"gates": {"max_drop": limit}}, "x", Path("/"))
    proof = {"main_metric": "accuracy", "split": "test", "n": 200, "results": [entry("a", first), entry("b", last)]}
    assert check_gates(recipe, {name: {} for name in NAMES} | {"proof": proof})[0]["passed"]


def test_a_gain_passes_the_tightest_gate(document: Document) -> None:
    recipe = loading.build(document | {"gates": {"max_drop": 0.0}}, "x", Path("/"))
    proof = {"main_metric": "accuracy", "split": "test", "n": 9, "results": [entry("a", 0.8), entry("b", 0.8)]}
    assert check_gates(recipe, {name: {} for name in NAMES} | {"proof": proof})[0]["passed"]
