"""Sections that come and go with what a benchmark holds: lines over lengths, the task's own lengths, factors, cold starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress import report
from compress.report import formatting
from compress.report.scatter import scatter
from tests.unit.report.documents import bench, charts, evaluation, read, with_own_lengths, write_run

NAMES = ["teacher", "graph", "int8"]


def test_the_tasks_own_length_is_another_cell_than_the_same_length_fixed(tmp_path: Path) -> None:
    stage = with_own_lengths(bench(NAMES, lengths=(32,)), 32)
    for entry in stage["results"][3:]:
        entry["latency_ms"] = {"p50": 99.0}
    folder = write_run(tmp_path / "run", {"speed": stage})
    assert report.summary(folder)[0]["p50_ms"] == 16


def test_cold_starts_are_shown_where_they_were_measured(tmp_path: Path) -> None:
    stage = bench(NAMES)
    _, before = read(write_run(tmp_path / "without", {"speed": stage}))
    assert "Cold start, in a new process" not in before.text
    for entry in stage["results"]:
        entry |= {"load_ms": 812.4, "first_run_ms": None if entry["model"] == "int8" else 33.0}
    _, seen = read(write_run(tmp_path / "with", {"speed": stage}))
    assert "Cold start, in a new process" in seen.text
    assert "Load, ms First run, ms teacher 812 33 graph 812 33 int8 812 –" in seen.text
    assert "None" not in seen.text


def test_padding_is_told_apart_from_compression(tmp_path: Path) -> None:
    stage = bench(NAMES)
    stage["control"][-1]["padding"] = {"ratio": 1.34, "ci95": [1.3, 1.38]}
    _, seen = read(write_run(tmp_path / "run", {"speed": stage}))
    assert "int8 takes 1.34× as long if every text is padded" in seen.text


SCALES = {
    "accuracy": ("accuracy, 0 to 100 points", "points of accuracy"),
    "squad_f1": ("SQuAD F1, 0 to 100 points", "points of SQuAD F1"),
    "entity_f1": ("entity F1, 0 to 100 points", "points of entity F1"),
    "spearman": ("Spearman correlation × 100", "points of Spearman correlation (× 100)"),
}


@pytest.mark.parametrize("metric", SCALES)
def test_every_metric_is_named_in_words_and_scaled(tmp_path: Path, metric: str) -> None:
    stage = evaluation(NAMES) | {"main_metric": metric}
    for entry in stage["results"]:
        entry |= {"metrics": {metric: entry["metrics"]["accuracy"]}, "ci95": {metric: entry["ci95"]["accuracy"]}}
    gate = {"gate": "max_drop", "limit": 1.0, "measured": 0.8, "passed": True, "where": f"points of {metric} on test"}
    folder = write_run(tmp_path / "run", {"proof": stage, "speed": bench(NAMES)}, [gate])
    axis, points = SCALES[metric]
    figure = scatter(report.summary(folder), {}, metric)
    assert figure is not None
    assert figure.layout.yaxis.title.text == axis
    assert [line.y[0] for line in figure.data if line.mode == "markers"] == pytest.approx([96.0, 95.6, 95.2])
    page, seen = read(folder)
    assert "scatter" in charts(page)
    assert f"loses 0.8 {points} against teacher" in seen.text
    assert f"({points} on test)" in seen.text
    assert f"{formatting.capitalized(formatting.metric_name(metric))} × 100" in seen.text
    assert metric == "accuracy" or metric not in seen.text
