"""A recipe with every verb, for the tests of planning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.unit.recipe.recipe_file import TEXT

Maker = Callable[..., Path]


@pytest.fixture
def document(own_checkpoint: Maker, tmp_path: Path) -> dict[str, Any]:
    """A recipe with a model and data of this test's own."""
    return {
        "schema": 1,
        "name": "plan",
        "seed": 1,
        "model": str(own_checkpoint()),
        "task": tiny.write_task(tmp_path / "task", 12, 6, 6),
        "stages": {
            "teacher": {"do": "finetune", "from": "model"},
            "slim": {"do": "prune", "from": "teacher", "target_flops": 0.5},
            "student": {"do": "distill", "from": "slim", "teacher": "teacher"},
            "graph": {"do": "export", "from": "student"},
            "int8": {"do": "quantize", "from": "graph"},
            "proof": {"do": "eval", "from": ["teacher", "int8"]},
            "speed": {"do": "bench", "from": ["slim", "int8"]},
        },
    }


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe file in a folder whose name has a space."""
    folder = tmp_path / "my recipes"
    folder.mkdir()
    (folder / "mine.yaml").write_text(TEXT, encoding="utf-8")
    return folder / "mine.yaml"
