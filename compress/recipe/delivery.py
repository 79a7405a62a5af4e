"""Delivery: the model that a run ends with, copied into `model/` with a model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compress.core import artifacts, console, files
from compress.models.sentence_folder import sentence_files
from compress.recipe.provenance import public_manifest
from compress.recipe.schema import Recipe, stage_of
from compress.recipe.workspace import Workspace
from compress.results import StageManifest


def deliver(recipe: Recipe, output: Path, workspace: Workspace, manifests: Mapping[str, StageManifest]) -> str | None:
    """Copy the model that the gates judge into `model/`, with a card; nothing is written if it is there already.

    Returns its name as it was measured: a stage, or one of a stage's models (`slim/2x`); None if the recipe makes no model.
    """
    from compress.report.card import model_card

    name = delivered_model(recipe, manifests)
    if name is None:
        return None
    source, folder = workspace.folder(name), output / "model"
    manifest = manifests.get(name) or artifacts.read_manifest(source) or manifests[stage_of(name)]
    documents = {**{stage: {**entry} for stage, entry in manifests.items()}, name: {**manifest}}
    card = model_card(recipe.name, name, documents, source)
    text = card.encode("utf-8", "backslashreplace")
    delivered, readme = artifacts.read_manifest(folder), folder / artifacts.CARD
    if delivered and delivered.get("digest") == manifest["digest"] and readme.is_file() and readme.read_bytes() == text:
        files.remove_leftovers(files.followed(folder))
        return name
    with files.atomic_folder(folder) as temporary:
        for path in [*source.iterdir(), *sentence_files(source)]:
            target = temporary / path.relative_to(source)
            if path.name == artifacts.MANIFEST:
                files.write_json(target, console.finite(public_manifest(files.read_json(path), recipe.stages)))
            elif path.is_file():
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(path.read_bytes())
        (temporary / artifacts.CARD).write_bytes(text)
    return name


def delivered_model(recipe: Recipe, manifests: Mapping[str, StageManifest]) -> str | None:
    """Return the last model that was measured, else the last one that was made."""
    made = [name for name, stage in recipe.stages.items() if stage.verb.makes != "measurement"]
    if not made:
        return None
    measured = [stage.sources[-1] for stage in recipe.stages.values() if stage.verb.many and stage_of(stage.sources[-1]) in made]
    name = (measured or made)[-1]
    if name in made and (models := manifests[name].get("models")):  # the recipe names none of several: the best seed, or the last target
        return f"{name}/{'best' if 'chosen' in manifests[name] else models[-1]['folder']}"
    return name
