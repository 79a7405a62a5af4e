"""A recipe whose stages are in a store becomes an ordinary run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core import artifacts, files
from compress.core.errors import UsageError
from compress.recipe import load as loading
from compress.recipe.run import run_recipe
from compress.search.run_folder import write_run_folder
from compress.search.store import FinishedStage, Store, run_stages
from tests.unit.search.recipes import build, write_document


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_document(tmp_path_factory.mktemp("inputs")) | {"gates": {"max_drop": 100.0}}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]) -> tuple[Store, dict[str, FinishedStage]]:
    store = Store(tmp_path_factory.mktemp("store"))
    return store, run_stages(build(document), store)


def test_it_is_what_a_run_would_have_written(
    document: dict[str, Any], stored: tuple[Store, dict[str, FinishedStage]], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    written = write_run_folder(build(document), *stored, output)
    assert sorted(path.name for path in output.iterdir()) == [
        "events.jsonl",
        "manifest.json",
        "model",
        "recipe.resolved.yaml",
        "report.html",
        "stages",
    ]
    assert written["delivered"] == "slim"
    assert [gate["passed"] for gate in written["gates"]] == [True]
    again = run_recipe(loading.load(str(output / "recipe.resolved.yaml")), output)
    assert again["stages_run"] == 0
    assert again["stages"] == written["stages"]


def test_its_recipe_makes_the_same_weights_elsewhere(
    document: dict[str, Any], stored: tuple[Store, dict[str, FinishedStage]], tmp_path: Path
) -> None:
    write_run_folder(build(document), *stored, tmp_path / "run")
    run = run_recipe(loading.load(str(tmp_path / "run" / "recipe.resolved.yaml")), tmp_path / "other")
    assert {name: stage["digest"] for name, stage in run["stages"].items() if name != "proof"} == {
        name: stage.manifest["digest"] for name, stage in stored[1].items() if name != "proof"
    }


def test_a_stage_has_the_name_of_the_recipe(
    document: dict[str, Any], stored: tuple[Store, dict[str, FinishedStage]], tmp_path: Path
) -> None:
    other = {**document, "stages": {"first": document["stages"]["teacher"]}, "gates": {}}
    stages = run_stages(build(other), stored[0])
    assert not stages["first"].ran
    write_run_folder(build(other), stored[0], stages, tmp_path / "run")
    manifest = artifacts.read_manifest(tmp_path / "run" / "stages" / "01-first")
    assert manifest is not None
    assert manifest["stage"] == "first"


def test_weights_are_links_and_documents_copies(
    document: dict[str, Any], stored: tuple[Store, dict[str, FinishedStage]], tmp_path: Path
) -> None:
    store, stages = stored
    write_run_folder(build(document), store, stages, tmp_path / "run")
    source, target = stages["teacher"].folder, tmp_path / "run" / "stages" / "01-teacher"
    assert (source / "model.safetensors").stat().st_ino == (target / "model.safetensors").stat().st_ino
    assert (source / "config.json").stat().st_ino != (target / "config.json").stat().st_ino
    assert files.read_json(target / "config.json") == files.read_json(source / "config.json")


def test_an_unfinished_recipe_and_a_foreign_folder_are_refused(
    document: dict[str, Any], stored: tuple[Store, dict[str, FinishedStage]], tmp_path: Path
) -> None:
    store, stages = stored
    with pytest.raises(UsageError, match="'slim' has not run"):
        write_run_folder(build(document), store, {name: stage for name, stage in stages.items() if name != "slim"}, tmp_path / "run")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="not a run folder"):
        write_run_folder(build(document), store, stages, tmp_path / "mine")
