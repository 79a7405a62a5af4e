"""Finding and reading recipes."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.recipe.load import find, load, ready_recipes
from tests.unit.recipe.recipe_file import refused


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


def test_local_files_take_the_place_of_the_tasks(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load(str(recipe), (), {"train": "a.csv", "test": "b.csv"})
    assert loaded.task is not None
    assert loaded.task.local_files() == {"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "b.csv")}


def test_local_files_need_a_task(recipe: Path) -> None:
    recipe.write_text("schema: 1\nname: x\nstages: {graph: {do: export, from: ./m}}\n", encoding="utf-8")
    assert "the recipe has no task" in refused(str(recipe), (), {"train": "a.csv"})
