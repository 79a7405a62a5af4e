"""A stage with several models: later stages name one of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from compress.core.errors import ModelError, RecipeError
from compress.models.reference import digest_model
from compress.recipe.delivery import deliver
from compress.recipe.load import load
from compress.recipe.provenance import write_model_manifests
from compress.recipe.resolve import resolved
from compress.recipe.schema import Recipe
from compress.recipe.workspace import Workspace
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
    assert workspace.digest("slim/2x") == digest_model(made / "2x") != digest_model(made / "3x")
    with pytest.raises(ModelError, match="has no model '4x'"):
        workspace.folder("slim/4x")


def test_a_folder_of_models_is_known_by_all_of_them(tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "2x", seed=1)
    alone = digest_model(tmp_path)
    tiny.write_checkpoint(tmp_path / "3x", seed=2)
    assert digest_model(tmp_path) != alone


def test_a_measurement_has_no_models_to_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="makes no checkpoint"):
        recipe(tmp_path, "proof: {do: eval, from: [slim/2x]}", "graph: {do: export, from: proof/2x}")


def test_of_a_family_the_measured_model_is_delivered(tmp_path: Path) -> None:
    for named, stage in (("slim/2x", "proof: {do: eval, from: [model, slim/2x]}"), ("slim/3x", "")):
        wanted = recipe(tmp_path, *[stage] if stage else [])
        workspace, made = Workspace(wanted), tmp_path / "made"
        for name in ("2x", "3x"):
            tiny.write_checkpoint(made / name, seed=int(name[0]))
        manifest = {
            "kind": "checkpoint", "verb": "prune", "stage": "slim", "digest": "of all", "task": {}, "settings": {},
            "lineage": [{"model": "./teacher"}], "models": [{"folder": "2x"}, {"folder": "3x"}],
        }  # fmt: skip
        write_model_manifests(made, manifest)
        workspace.finish("slim", made, manifest)
        assert deliver(wanted, tmp_path / named, workspace, {"slim": manifest}) == named
        assert digest_model(tmp_path / named / "model") == digest_model(made / named[-2:])


SEEDS = "teacher: {do: finetune, from: model, seeds: [0, 4]}"


@pytest.mark.parametrize(
    ("stage", "named"), [("graph: {do: export, from: slim}", "slim/2x, slim/3x"), ("proof: {do: eval, from: [model, teacher]}",
     "teacher/best, teacher/median, teacher/seed-0, teacher/seed-4")]
)  # fmt: skip
def test_several_models_are_not_taken_for_one(stage: str, named: str, tmp_path: Path) -> None:
    """When the recipe is read, not after hours of training."""
    with pytest.raises(RecipeError, match="makes several models") as caught:
        recipe(tmp_path, SEEDS, stage)
    assert caught.value.hint == f"name one of them: {named}"
    assert caught.value.exit_code == 3
    assert recipe(tmp_path, SEEDS, "graph: {do: export, from: teacher/best}")


def test_seed_or_seeds(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'seed' or 'seeds', not both"):
        recipe(tmp_path, SEEDS.replace("seeds", "seed: 3, seeds"))
    stages = resolved(recipe(tmp_path, SEEDS))["stages"]
    assert "seed" not in stages["teacher"]  # so that what was resolved can be run
    assert stages["slim"]["seed"] == 0
