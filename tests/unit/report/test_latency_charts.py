"""Charts of latencies: lines over lengths, bars over cells, the task's own lengths."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.report.latency_charts import cell_names, latency_chart, length_chart
from tests.unit.report.documents import bench, charts, read, with_own_lengths, write_run

NAMES = ["teacher", "graph", "int8"]


def test_lines_leave_the_tasks_own_lengths_out(tmp_path: Path) -> None:
    stage = with_own_lengths(bench(NAMES))
    figure = length_chart(stage["results"], [])
    assert figure is not None
    assert [tuple(line.x) for line in figure.data] == [(32, 128)] * 3
    page, seen = read(write_run(tmp_path / "run", {"speed": stage}))
    assert "lengths" in charts(page)
    assert "latencies" not in charts(page)
    assert "task's own (mean 41)" in seen.text
    assert "with tokenization" in seen.text


@pytest.mark.parametrize("mean", [41, 32])
def test_one_length_and_the_tasks_own_are_bars(mean: int) -> None:
    results = with_own_lengths(bench(NAMES, lengths=(32,)), mean)["results"]
    assert length_chart(results, []) is None
    figure = latency_chart(results, [])
    assert figure is not None
    assert list(figure.layout.xaxis.ticktext) == ["32 tokens", f"task's own (mean {mean})"]


def test_cells_of_several_threads_are_bars_and_lines() -> None:
    stage = bench(NAMES)
    results = stage["results"] + [{**entry, "threads": 2} for entry in stage["results"]]
    assert length_chart(results, []) is not None
    assert latency_chart(results, []) is not None
    assert cell_names([(1, 1, 32, False), (2, 1, 32, False)]) == ["threads 1", "threads 2"]
