"""Checks before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import DataError, ModelError, ResourceError
from compress.recipe.preflight import check_inputs
from tests import tiny
from tests.unit.recipe.planning import build, edited


def test_inputs_are_checked_before_any_work(document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_inputs(build(document))
    with pytest.raises(ModelError, match="no model folder"):
        check_inputs(build(document | {"model": str(tmp_path / "nowhere")}))
    with pytest.raises(ModelError, match="no model folder"):
        check_inputs(build(edited(document, "proof", **{"from": ["teacher", str(tmp_path / "nowhere")]})))
    with pytest.raises(ModelError, match="no model folder"):
        check_inputs(build(edited(document, "student", augment=2, augment_model=str(tmp_path / "nowhere"))))
    with pytest.raises(ModelError, match="not a masked language model"):
        check_inputs(build(edited(document, "student", augment=2, augment_model=document["model"])))
    check_inputs(build(edited(document, "student", augment=2, augment_model=str(tiny.write_masked_lm(tmp_path / "writer")))))
    with pytest.raises(DataError, match="there is no file"):
        check_inputs(build(document | {"task": document["task"] | {"test": str(tmp_path / "nowhere.csv")}}))
    with pytest.raises(DataError, match="unusable"):
        check_inputs(build(document | {"task": document["task"] | {"labels": ["x", "y", "z"]}}))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cold"))
    with pytest.raises(ResourceError, match="offline"):
        check_inputs(build(document | {"model": "owner/name"}))
