"""The speedup as factors of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.report.waterfall import waterfall_chart, waterfall_of
from tests.unit.report.documents import bench, charts, read, write_run

NAMES = ["teacher", "graph", "int8"]


STEPS = [
    {"from": "teacher", "to": "graph", "what": "runtime + smaller model", "ratio": 2.0, "ci95": [1.9, 2.1]},
    {"from": "graph", "to": "int8", "what": "int8", "ratio": 2.2, "ci95": [2.1, 2.3]},
]


FACTORS = {"threads": 1, "batch_size": 1, "seq_len": 32, "lengths": "fixed", "steps": STEPS, "total": {"ratio": 4.4, "ci95": [4.3, 4.5]}}


def test_the_speedup_is_split_into_factors(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"speed": bench(NAMES) | {"waterfall": [FACTORS]}})
    page, seen = read(folder)
    assert "waterfall" in charts(page)
    assert "int8 is 4.40× as fast as teacher" in seen.text
    assert "2.00 (runtime + smaller model) × 2.20 (int8) = 4.40" in seen.text
    assert "Timed with 1 thread, batch 1, 32 tokens." in seen.text
    figure = waterfall_chart(FACTORS, [])
    ends = [bar.base[0] + bar.x[0] for bar in figure.data]
    assert figure.data[1].base[0] == pytest.approx(ends[0])
    assert ends[1] == pytest.approx(ends[2])


DAMAGED: dict[str, Any] = {
    "absent": None,
    "empty": [],
    "without steps": [{**FACTORS, "steps": []}],
    "without numbers": [{**FACTORS, "total": {"ratio": None, "ci95": [None, None]}}],
}


@pytest.mark.parametrize("case", DAMAGED)
def test_without_factors_there_is_no_section(tmp_path: Path, case: str) -> None:
    stage = bench(NAMES) | {"waterfall": DAMAGED[case]}
    assert waterfall_of(stage) is None
    page, seen = read(write_run(tmp_path / "run", {"speed": stage}))
    assert "waterfall" not in charts(page)
    assert "Where the speedup comes from" not in seen.text


def test_a_step_that_slows_down_and_one_without_an_interval() -> None:
    steps = [{**STEPS[0], "ratio": 0.5, "ci95": [0.4, 0.6]}, {**STEPS[1], "ci95": [None, None]}]
    figure = waterfall_chart({**FACTORS, "steps": steps, "total": {"ratio": 1.1}}, [])
    assert figure.data[0].x[0] < 0
    assert figure.layout.xaxis.range[0] < figure.data[0].x[0]
