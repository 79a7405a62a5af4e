"""Candidates as stages: every stage of the space is one that a recipe accepts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from compress.data.spec import TaskSpec
from compress.recipe.check import check_recipe
from compress.search.space import FEATURE_BYTES, TARGETS, Space, references, stage_name
from tests.unit.search.landscape import FACTS, SERVING

SPEC = TaskSpec(name="t", text=["text"], train="train.csv", validation="validation.csv")


def checked(space: Space, task: TaskSpec = SPEC) -> Any:
    document = {
        "schema": 1,
        "name": "auto",
        "model": "./model",
        "task": "t",
        "stages": {name: dict(fields) for name, fields in space.stages.items()},
    }
    return check_recipe(document, lambda _: task, "search")


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("teacher", ["", "./big"])
def test_every_stage_is_accepted_by_a_recipe(trained: bool, teacher: str) -> None:
    space = Space(FACTS, SERVING, trains_baseline=not trained, teacher=teacher, unlabeled="texts.txt")
    if not trained:
        space.add_baseline(3)
    space.add_graph("graph", space.baseline)
    space.add_family(TARGETS)
    start = space.member(2.5)
    assert start == "slim/2.5x"
    student = space.add_student(stage_name("student", "2.5x", 1), start, 1, space.unit())
    more = space.add_student(stage_name("student", "2.5x", 2), student, 1, space.unit(with_variants=False))
    small = space.add_student("shallow", "layers=2", 1, space.unit(), is_spec=True)
    words = space.add_vocabulary("words", more)
    for model in (space.add_int8("int8", words), space.add_int4("int4", words), space.add_shape("quick", small)):
        space.add_check(model)
        space.add_timing(model)
    space.add_duel(student, more)
    space.add_proof("int8")
    recipe = checked(space)
    assert recipe.stages["student-2_5x-1"].settings.epochs == space.unit().epochs


def test_only_what_a_stage_depends_on_is_needed() -> None:
    space = Space(FACTS, SERVING, trains_baseline=True)
    space.add_baseline(3)
    space.add_family(TARGETS)
    space.add_int8("baseline-int8", "teacher")
    student = space.add_student("student-4x-1", "slim/4x", 1, space.unit())
    assert list(space.needed(student)) == ["teacher", "slim", "student-4x-1"]
    assert references(space.stages[student]) == {"slim", "teacher"}


def test_a_unit_has_enough_steps_on_small_data() -> None:
    unit = Space(replace(FACTS, train=400), SERVING, trains_baseline=True).unit()
    assert 400 <= unit.steps <= 800
    assert unit.variants == 3


def test_a_unit_without_variants_has_as_many_steps() -> None:
    space = Space(FACTS, SERVING, trains_baseline=True)
    plain, varied = space.unit(with_variants=False), space.unit()
    assert plain.variants == 0
    assert plain.steps == pytest.approx(varied.steps, rel=0.25)


def test_texts_whose_hidden_states_do_not_fit_have_fewer_variants_then_match_the_last_layer() -> None:
    space = Space(replace(FACTS, train=20_000), SERVING, trains_baseline=True)
    assert space.unit().variants < 3
    huge = Space(replace(FACTS, train=48_000, tokens=100.0), SERVING, trains_baseline=True)
    assert huge.unit().variants == 0
    assert not huge.unit().matches_all
    huge.add_student("student", "slim/4x", 1, huge.unit())
    assert huge.stages["student"]["match"] == "last"
    assert 48_000 * 100 * FACTS.hidden * (FACTS.layers + 1) * 2 > FEATURE_BYTES


def test_of_large_data_each_step_draws_other_texts() -> None:
    space = Space(replace(FACTS, train=400_000), SERVING, trains_baseline=True, seed=5)
    unit = space.unit()
    assert unit.steps == 1500
    for units in (1, 2):
        space.add_student(f"student-{units}", "slim/4x", units, unit)
    first, second = space.stages["student-1"], space.stages["student-2"]
    assert (first["max_examples"], second["max_examples"]) == (48_000, 96_000)
    assert first["epochs"] == second["epochs"] == 1
    assert first["seed"] != second["seed"]


def test_stages_do_not_depend_on_limit_or_budget() -> None:
    """So that another search finds them in the store: nothing in the space knows either."""
    assert not {"limit", "budget", "objective"} & set(vars(Space(FACTS, SERVING, trains_baseline=True)))
