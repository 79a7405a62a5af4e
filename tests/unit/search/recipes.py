"""Small recipes for the tests of searches: fast, and without a stage that times anything."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from compress.recipe import load as loading
from compress.recipe.schema import Recipe
from tests import tiny

TEACHER = {"do": "finetune", "from": "model", "epochs": 1, "lr": 2e-3, "batch_size": 8, "precision": "fp32", "device": "cpu"}
STAGES: dict[str, Any] = {
    "teacher": TEACHER,
    "slim": {"do": "prune", "from": "teacher", "method": "magnitude", "target_flops": 0.5, "device": "cpu"},
    "proof": {"do": "eval", "from": ["teacher", "slim"], "device": "cpu"},
}


def write_document(folder: Path, stages: dict[str, Any] | None = None) -> dict[str, Any]:
    """Write a tiny encoder and task into a folder; returns the document of a recipe on them."""
    return {
        "schema": 1,
        "name": "tiny-search",
        "seed": 3,
        "model": str(tiny.write_encoder(folder / "encoder")),
        "task": tiny.write_task(folder / "task", 24, 12, 12),
        "stages": copy.deepcopy(stages or STAGES),
    }


def build(document: dict[str, Any], **changes: dict[str, Any]) -> Recipe:
    """Check a document with the keys of some stages changed."""
    document = copy.deepcopy(document)
    for stage, fields in changes.items():
        document["stages"].setdefault(stage, {}).update(fields)
    return loading.build(document, "tiny.yaml", Path("/"))
