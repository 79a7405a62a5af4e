"""Models with pickled weights only: the hint's command. It is run by `tests/integration/test_pickled_weights.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compress.models.pickled_weights import missing_weights

Maker = Callable[..., Path]


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
