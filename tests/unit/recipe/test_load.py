"""Finding, reading and overriding recipes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import CompressError, RecipeError
from compress.recipe.load import find, load, overridden, ready_recipes

TEXT = """\
schema: 1
name: mine
model: owner/name
task: {text: [sentence], train: data/train.csv, labels: ["no", "yes"]}
stages:
  teacher: {do: finetune, from: model, lr: 1e-5}
  student: {do: distill, student: layers=2, teacher: teacher, augment: 2, augment_model: ./writer}
"""
DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "seed": 3,
    "gates": {"max_drop": 1.0},
    "task": {"text": ["a"]},
    "stages": {"teacher": {"do": "finetune", "lr": 1e-3}, "seed": {"do": "export"}},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe file in a folder whose name has a space."""
    folder = tmp_path / "my recipes"
    folder.mkdir()
    (folder / "mine.yaml").write_text(TEXT, encoding="utf-8")
    return folder / "mine.yaml"


def refused(*args: Any) -> str:
    """Load a recipe that must be refused; returns message and hint."""
    with pytest.raises(RecipeError) as caught:
        load(*args)
    assert caught.value.exit_code == 3
    return f"{caught.value.message} | {caught.value.hint}"


def test_a_file_is_read_and_its_paths_start_at_its_folder(recipe: Path) -> None:
    loaded = load(str(recipe))
    assert loaded.name == "mine"
    assert loaded.task is not None
    assert loaded.task.train == str(recipe.parent / "data" / "train.csv")
    assert loaded.stages["student"].settings.model_dump()["augment_model"] == str(recipe.parent / "writer")
    assert loaded.stages["teacher"].settings.model_dump()["lr"] == 1e-5  # YAML 1.1 would read a string


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe\0", "schema: 1".encode("utf-16"), b"a:\n\t- 1", b"a: 1\na: 2", b"- 1", b"a: &x 1\nb: *x", b"!!python/object:os.x {}"],
)
def test_files_that_are_no_recipe(recipe: Path, content: bytes) -> None:
    recipe.write_bytes(content)
    assert str(recipe) in refused(str(recipe))


def test_a_byte_order_mark_is_fine(recipe: Path) -> None:
    recipe.write_bytes(b"\xef\xbb\xbf" + recipe.read_bytes())
    assert load(str(recipe)).name == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dmo", "unknown recipe 'dmo' (did you mean 'demo'?)"),
        ("nothing.yaml", "there is no recipe file nothing.yaml"),
        ("no/thing", "there is no recipe file no/thing"),
        ("zzz", "compress recipes list"),
        ("", "unknown recipe ''"),
        (".", "unknown recipe '.'"),
    ],
)
def test_recipes_that_are_not_there(name: str, message: str) -> None:
    assert message in refused(name)


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "~nobody-of-this-name/x.yaml"])
def test_names_that_no_file_can_have(name: str) -> None:
    refused(name)


def test_ready_recipes_are_found_by_name() -> None:
    assert find("demo") == ready_recipes()["demo"]
    assert find("demo").name == "demo.yaml"


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
    found = overridden(DOCUMENT, override)
    assert before == DOCUMENT  # the original is left alone
    expected: Any = copy.deepcopy(DOCUMENT)
    place = expected
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert found == expected
    assert type(found) is dict


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


def test_local_files_take_the_place_of_the_tasks(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load(str(recipe), (), {"train": "a.csv", "test": "b.csv"})
    assert loaded.task is not None
    assert loaded.task.local_files() == {"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "b.csv")}


def test_local_files_need_a_task(recipe: Path) -> None:
    recipe.write_text("schema: 1\nname: x\nstages: {graph: {do: export, from: ./m}}\n", encoding="utf-8")
    assert "the recipe has no task" in refused(str(recipe), (), {"train": "a.csv"})
