"""Overrides of a recipe: `--set path=value`."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import CompressError
from compress.recipe.load import load
from compress.recipe.overrides import overridden
from tests.unit.recipe.recipe_file import TEXT, refused

DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "seed": 3,
    "gates": {"max_drop": 1.0},
    "task": {"text": ["a"]},
    "stages": {"teacher": {"do": "finetune", "lr": 1e-3}, "seed": {"do": "export"}},
}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=5", ["seed"], 5),
        ("seed = 5", ["seed"], 5),
        ("teacher.lr=1e-5", ["stages", "teacher", "lr"], 1e-5),
        ("stages.teacher.lr=2e-5", ["stages", "teacher", "lr"], 2e-5),
        ("teacher.epochs=7", ["stages", "teacher", "epochs"], 7),
        ("teacher.from=[a, b]", ["stages", "teacher", "from"], ["a", "b"]),
        ("gates.max_drop=0.5", ["gates", "max_drop"], 0.5),
        ("task.train=my file.csv", ["task", "train"], "my file.csv"),
        ("task=sst2", ["task"], "sst2"),
        ("model=owner/name@v1", ["model"], "owner/name@v1"),
        ("name=a=b", ["name"], "a=b"),
        ("name=", ["name"], None),
        ("seed.do=prune", ["stages", "seed", "do"], "prune"),  # a stage's name goes first where there is a dot
    ],
)
def test_overrides_set_one_value(override: str, path: list[str], value: Any) -> None:
    before = copy.deepcopy(DOCUMENT)
    result = overridden(DOCUMENT, override)
    assert before == DOCUMENT  # the original is left alone
    expected: Any = copy.deepcopy(DOCUMENT)
    place = expected
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert result == expected
    assert type(result) is dict


def test_gates_can_be_set_where_there_are_none() -> None:
    assert overridden({"schema": 1}, "gates.max_drop=2.0") == {"schema": 1, "gates": {"max_drop": 2.0}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("teecher.lr=1", "there is no 'teecher' (did you mean 'teacher'?)"),
        ("stages.nobody.lr=1", "there is no 'stages.nobody'"),
        ("seed.x=1", "seed"),
        ("teacher.lr.x=1", "is a value, not a group of keys"),
        ("teacher.a.b.c=1", "there is no"),
        ("teacher.lr", "write it as path=value"),
        ("=5", "write it as path=value"),
        (".lr=5", "write it as path=value"),
        ("teacher..lr=5", "write it as path=value"),
        ("", "write it as path=value"),
        ("teacher.lr=[", "--set teacher.lr=["),
        ("teacher.lr=*x", "aliases"),
        ("teacher.lr=!!python/name:os.system", "--set"),
    ],
)
def test_overrides_that_make_no_sense(recipe: Path, override: str, message: str) -> None:
    if override == "seed.x=1":
        recipe.write_text(TEXT + "seed: 1\n", encoding="utf-8")
    assert message in refused(str(recipe), (override,))


def test_an_overridden_value_is_checked_like_any_other(recipe: Path) -> None:
    assert load(str(recipe), ("teacher.epochs=9", "seed=4")).stages["teacher"].settings.model_dump()["epochs"] == 9
    assert "epochs" in refused(str(recipe), ("teacher.epochs=0",))
    assert "did you mean 'epochs'" in refused(str(recipe), ("teacher.epoch=9",))


@given(
    st.text(max_size=30)
    | st.tuples(st.sampled_from(["teacher", "stages", "seed", "gates", "x"]), st.text(".=ab1[{&*!", max_size=12)).map("".join)
)
def test_any_override_gives_a_document_or_a_recipe_error(override: str) -> None:
    try:
        assert isinstance(overridden(DOCUMENT, override), dict)
    except CompressError as error:
        assert error.exit_code == 3  # noqa: PT017 (any other exception fails the test)
