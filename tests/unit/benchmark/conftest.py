"""Few bootstrap resamples, and artifacts with a manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compress.benchmark import statistics
from compress.core import artifacts, files
from compress.export import RUNTIME_HINTS, write_artifact
from compress.export.graph import build_graph
from compress.models.checkpoint import load_model

WriteArtifact = Callable[..., Path]


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make bootstrap intervals cheap."""
    monkeypatch.setattr(statistics, "RESAMPLES", 100)


@pytest.fixture
def artifact(tmp_path: Path) -> WriteArtifact:
    """Return a function that writes the artifact of a checkpoint, with a manifest that records a precision."""

    def write(source: Path, precision: str = "fp32") -> Path:
        folder = tmp_path / "graph"
        folder.mkdir()
        write_artifact(build_graph(load_model(source)), source, folder)
        files.write_json(folder / artifacts.MANIFEST, {"precision": precision, "runtime": RUNTIME_HINTS})
        return folder

    return write
