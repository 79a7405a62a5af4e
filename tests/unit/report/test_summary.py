"""One row per model, from the last measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress import report
from tests.unit.report.documents import bench, evaluation, write_run


def test_the_last_measurements_count(tmp_path: Path) -> None:
    stages = {
        "early": evaluation(["a", "x"]), "other": evaluation(["y"], split="validation"), "proof": evaluation(["a", "b"]),
        "first": bench(["b", "a"]), "speed": bench(["a", "b"]),
    }  # fmt: skip
    rows = {row["model"]: row for row in report.summary(write_run(tmp_path / "run", stages))}
    assert list(rows) == ["a", "x", "b", "y"]
    assert rows["b"]["speedup"]["vs"] == "a"
    assert rows["x"]["delta_points"] == pytest.approx(-0.4)
    assert rows["y"]["accuracy"] is None, "measured on another split: not to be compared"
