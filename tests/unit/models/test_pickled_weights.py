"""Models with pickled weights only: the hint's command, run as it is printed, gives a model that opens and predicts the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from compress.inference.predictor import open_predictor
from compress.models.pickled_weights import missing_weights
from tests import tiny
from tests.unit.models.folders import refused

Maker = Callable[..., Path]


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


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"architectures": ["BertForSequenceClassification"]}, "BertForSequenceClassification"),
        ({"architectures": ["RobertaForQuestionAnswering"]}, "RobertaForQuestionAnswering"),
        ({"architectures": ["BertForPreTraining"]}, "AutoModel"),
        ({"architectures": None, "id2label": {"0": "a", "1": "b"}}, "AutoModelForSequenceClassification"),
        ({}, "AutoModel"),
    ],
)
def test_the_hint_names_the_class_that_has_the_head(tmp_path: Path, config: dict[str, object], name: str) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    hint = missing_weights(tmp_path, config).hint or ""
    assert f"import {name};" in hint
    assert "AutoTokenizer" not in hint  # there is none
    (tmp_path / "vocab.txt").touch()
    assert "AutoTokenizer.from_pretrained" in (missing_weights(tmp_path, config).hint or "")


def test_a_hub_model_is_named_by_its_id(tmp_path: Path) -> None:
    folder = tmp_path / "models--owner--some--name" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    error = missing_weights(folder, {"architectures": ["BertModel"]})
    assert error.message == "owner/some--name has no safetensors on the Hub"
    assert 'BertModel.from_pretrained("owner/some--name").save_pretrained("some--name-safetensors")' in (error.hint or "")


def test_other_pickles_have_no_command(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    error = missing_weights(tmp_path, {})
    assert "best.ckpt" in error.message
    assert "python -c" not in (error.hint or "")
