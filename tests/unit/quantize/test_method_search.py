"""`method: auto`: what is tried, and on which machine."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import UsageError
from tests.unit.quantize.stage import run


def test_auto_for_gpus(graph: Path, tiny_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("compress.quantize.method_search"), "measure_speedup", lambda *args: pytest.fail("timed"))
    assert run(graph, tmp_path / "cuda", tiny_task, method="auto", target="cuda")["precision"] == "fp16"
    made = run(graph, tmp_path / "tensorrt", tiny_task, method="auto", target="tensorrt", max_drop=100.0)
    assert (made["method"], [entry["method"] for entry in made["candidates"]]) == ("static", ["static"])
    for method, message in (("dynamic", "does not support dynamic int8"), ("auto", "needs texts to calibrate on")):
        with pytest.raises(UsageError, match=message):
            run(graph, tmp_path / method, target="tensorrt", method=method)
