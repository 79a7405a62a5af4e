"""Models with pickled weights only: the hint's command, run as it is printed, gives a model that opens and predicts the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compress.inference.predictor import open_predictor
from tests import tiny
from tests.unit.models.folders import refused


def pickled(folder: Path) -> Path:
    """Replace the weights of a folder by a pickle."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_the_hint_is_followed_literally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny.write_checkpoint(tmp_path / "my old model", target="tags", labels=["O", "B-X"])
    expected = open_predictor(source)(["the red dog", "an old horse"])
    kept = tmp_path / "kept"
    shutil.copytree(source, kept)
    hint = refused(pickled(source)).hint or ""
    assert hint.startswith("if you trust it, write it again and use the folder my old model-safetensors: python -c ")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    subprocess.run(["bash", "-c", hint.partition(": ")[2]], cwd=tmp_path, check=True, capture_output=True)
    assert open_predictor(tmp_path / "my old model-safetensors")(["the red dog", "an old horse"]) == expected
