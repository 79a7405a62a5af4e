"""A graph to quantize."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.settings import ExportSettings
from compress.stage import Inputs

Maker = Callable[..., Path]
export = importlib.import_module("compress.export").run


@pytest.fixture
def graph(checkpoint: Maker, tmp_path: Path) -> Path:
    """An fp32 artifact of the tiny BERT."""
    (tmp_path / "graph").mkdir()
    export(Inputs({"model": checkpoint()}), ExportSettings.model_validate({}), tmp_path / "graph")
    return tmp_path / "graph"
