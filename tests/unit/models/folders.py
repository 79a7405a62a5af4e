"""Model folders for tests: saved models, pruned ones, and loads that must be refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import ModelError
from compress.models.checkpoint import load_model, save_model
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny


def refused(folder: Path) -> ModelError:
    """Load a folder that must be refused, and return the error (exit code 4)."""
    with pytest.raises(ModelError) as caught:
        load_model(folder)
    assert caught.value.exit_code == 4
    assert str(folder) in caught.value.message or "architecture" in caught.value.message
    return caught.value


def write_pruned(folder: Path, **entry: Any) -> Path:
    """Write a pruned checkpoint, with some fields of its config's entry replaced."""
    folder.mkdir()
    tiny.write_tokenizer(folder)
    model = tiny.make_model()
    slice_model(model, [Kept([0, 2], [1, 2, 3])] * tiny.LAYERS)
    save_model(model, folder, folder)
    recorded = json.loads((folder / "config.json").read_text(encoding="utf-8"))["compress"]
    return tiny.edit_config(folder, compress=recorded | entry)


def save(model: Any, folder: Path, family: str = "bert") -> Path:
    """Save a model with its family's tokenizer."""
    folder.mkdir()
    tiny.write_tokenizer(folder, family)
    save_model(model, folder, folder)
    return folder
