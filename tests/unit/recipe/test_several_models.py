"""A stage that made several models: later stages name one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from compress.errors import ModelError, RecipeError
from compress.model.reference import digest
from compress.recipe.load import load
from compress.recipe.plan import Workspace
from compress.recipe.schema import Recipe
from tests import tiny

RECIPE = """
schema: 1
name: family
model: ./teacher
task: tiny.yaml
stages:
  slim: {do: prune, from: model, target_speedup: [2, 3]}
"""


def recipe(folder: Path, *stages: str) -> Recipe:
    """Read the recipe with further stages."""
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny.write_task(folder / "data")), encoding="utf-8")
    (folder / "family.yaml").write_text(RECIPE + "".join(f"  {stage}\n" for stage in stages), encoding="utf-8")
    return load(str(folder / "family.yaml"), (), None)


def test_a_model_of_a_stage_is_a_folder_in_it(tmp_path: Path) -> None:
    workspace = Workspace(recipe(tmp_path, "graph: {do: export, from: slim/2x}"))
    made = tmp_path / "made"
    for name in ("2x", "3x"):
        tiny.write_checkpoint(made / name, seed=len(name) + int(name[0]))
    workspace.finish("slim", made, {"digest": "of all"})
    assert workspace.folder("slim/2x") == made / "2x"
    assert workspace.digest("slim/2x") == digest(made / "2x") != digest(made / "3x")
    with pytest.raises(ModelError, match="made no model '4x'"):
        workspace.folder("slim/4x")


def test_a_folder_of_models_is_known_by_all_of_them(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "2x", seed=1)
    alone = digest(tmp_path)
    tiny.write_checkpoint(tmp_path / "3x", seed=2)
    assert digest(tmp_path) != alone


def test_a_measurement_has_no_models_to_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="makes no checkpoint"):
        recipe(tmp_path, "proof: {do: eval, from: [slim/2x]}", "graph: {do: export, from: proof/2x}")
