"""A graph to quantize."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from compress.settings import ExportSettings
from compress.stage import Inputs

Maker = Callable[..., Path]
export = importlib.import_module("compress.export").run


@pytest.fixture(scope="session")
def exported(checkpoint: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An fp32 artifact of the tiny BERT (shared: read it only)."""
    folder = tmp_path_factory.mktemp("exported") / "graph"
    folder.mkdir()
    export(Inputs({"model": checkpoint()}), ExportSettings.model_validate({}), folder)
    return folder


@pytest.fixture
def graph(exported: Path, tmp_path: Path) -> Path:
    """A copy of the artifact, of this test's own."""
    return Path(shutil.copytree(exported, tmp_path / "graph"))
