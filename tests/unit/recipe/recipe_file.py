"""A recipe in a file, and loading one that must be refused."""

from __future__ import annotations

from typing import Any

import pytest

from compress.core.errors import RecipeError
from compress.recipe.load import load

TEXT = """\
schema: 1
name: mine
model: owner/name
task: {text: [sentence], train: data/train.csv, labels: ["no", "yes"]}
stages:
  teacher: {do: finetune, from: model, lr: 1e-5}
  student: {do: distill, student: layers=2, teacher: teacher, augment: 2, augment_model: ./writer}
"""


def refused(*args: Any) -> str:
    """Load a recipe that must be refused; returns message and hint."""
    with pytest.raises(RecipeError) as caught:
        load(*args)
    assert caught.value.exit_code == 3
    return f"{caught.value.message} | {caught.value.hint}"
