"""Where the models of a recipe are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import ModelError
from compress.recipe.workspace import Workspace, external_models
from tests.unit.recipe.planning import build


def workspace_of(tmp_path: Path) -> Workspace:
    """Return a workspace with a finished stage of two models, of seeds 0 and 1, the second of them the best."""
    for name in ("seed0", "seed1"):
        (tmp_path / "teacher" / name).mkdir(parents=True)
    (tmp_path / "teacher" / "compress.json").write_text(json.dumps({"chosen": {"best": "seed1", "median": "seed0"}}), encoding="utf-8")
    workspace = Workspace(build(document(tmp_path)))
    manifest: Any = {"digest": "d", "runtime": {"optimization": "basic"}}
    workspace.finish("teacher", tmp_path / "teacher", manifest)
    return workspace


def document(tmp_path: Path) -> dict[str, Any]:
    stages = {"graph": {"do": "export", "from": "model"}, "other": {"do": "export", "from": str(tmp_path / "mine")}}
    return {"schema": 1, "name": "x", "model": str(tmp_path / "base"), "stages": stages}


def test_models_of_a_finished_stage(tmp_path: Path) -> None:
    workspace, folder = workspace_of(tmp_path), tmp_path / "teacher"
    assert workspace.folder("teacher") == folder
    assert workspace.folder("teacher/seed0") == folder / "seed0"
    assert workspace.folder("teacher/best") == folder / "seed1"
    assert workspace.folder("teacher/median") == folder / "seed0"
    assert workspace.digest("teacher") == "d"
    assert workspace.runtime("teacher") == {"optimization": "basic"}


def test_a_model_that_the_stage_lacks(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="stage teacher has no model 'seed7'") as caught:
        workspace_of(tmp_path).folder("teacher/seed7")
    assert caught.value.hint == "it has: seed0, seed1"


def test_models_from_outside(tmp_path: Path) -> None:
    for name in ("base", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}", encoding="utf-8")
    assert Workspace(build(document(tmp_path))).folder("model") == tmp_path / "base"
    assert external_models(build(document(tmp_path))) == [tmp_path / "base", tmp_path / "mine"]
