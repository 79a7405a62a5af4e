"""The report of each matmul's error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import tiny
from tests.unit.quantize.stage import run


@pytest.mark.parametrize("method", ["dynamic", "static", "smooth"])
def test_the_report_lists_every_matmul(graph: Path, tiny_task: dict[str, Any], method: str, tmp_path: Path) -> None:
    ranges = {} if method == "dynamic" else {"calib_method": "percentile"}
    made = run(graph, tmp_path / "out", tiny_task, method=method, report=True, **ranges)
    entries = {entry["matmul"]: entry for entry in made["explain"]}
    assert len(entries) == 6 * tiny.LAYERS + 2
    for entry in entries.values():
        assert 0 < entry["error"] < 0.5
        assert not entry["float"]
        if method == "dynamic":
            assert entry["range"] is None
        else:
            low, high = entry["range"]
            assert entry["seen"][0] <= low <= 0 <= high <= entry["seen"][1]
            assert 0 <= entry["saturated"] < 1e-3
    assert "explain" not in run(graph, tmp_path / "other", tiny_task, method=method)
