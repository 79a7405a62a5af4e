"""Shapes are timed before they are trained, once per machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.prune import serving_clock
from compress.search.objective import ServingPoint
from compress.search.shape_clock import time_shapes
from compress.search.space import Space
from tests import tiny
from tests.unit.search.landscape import FACTS


def test_shapes_are_timed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    folder = tiny.write_encoder(tmp_path / "encoder")
    space = Space(FACTS, ServingPoint(1, 16, 1, "onnxruntime"), trains_baseline=True)
    specs = ["layers=1", "layers=1,hidden=16,ffn=32", "lstm=4,embedding=8,ffn=8", "layers=99"]
    found = time_shapes(folder, tiny.LABELS, "class", space, specs)
    assert list(found) == specs[:3]  # it has not so many layers
    assert all(facts.speedup > 0 for facts in found.values())
    assert found["layers=1"].params > found["layers=1,hidden=16,ffn=32"].params > found["lstm=4,embedding=8,ffn=8"].params
    monkeypatch.setattr(serving_clock.ServingClock, "speedup", None)  # not timed again
    assert time_shapes(folder, tiny.LABELS, "class", space, specs[:3]) == found


def test_weights_of_several_uses_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    folder = tiny.write_encoder(tmp_path / "encoder", "albert")
    space = Space(FACTS, ServingPoint(1, 16, 1, "onnxruntime"), trains_baseline=True)
    found = time_shapes(folder, tiny.LABELS, "class", space, ["layers=1", "layers=2"])
    assert found["layers=1"].params == found["layers=2"].params
