"""Sections that come and go with what a benchmark holds: lines over lengths, the task's own lengths, factors, cold starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress import report
from compress.report import formatting
from compress.report.latency_charts import cell_names, latency_chart, length_chart
from compress.report.scatter import scatter
from compress.report.waterfall import waterfall_chart, waterfall_of
from tests.unit.report.documents import Document, bench, charts, evaluation, read, write_run

NAMES = ["teacher", "graph", "int8"]
STEPS = [
    {"from": "teacher", "to": "graph", "what": "runtime + smaller model", "ratio": 2.0, "ci95": [1.9, 2.1]},
    {"from": "graph", "to": "int8", "what": "int8", "ratio": 2.2, "ci95": [2.1, 2.3]},
]
FACTORS = {"threads": 1, "batch_size": 1, "seq_len": 32, "lengths": "fixed", "steps": STEPS, "total": {"ratio": 4.4, "ci95": [4.3, 4.5]}}


def with_own_lengths(stage: Document, mean: int = 41) -> Document:
    """Add a cell on the task's own texts to a benchmark."""
    first = stage["results"][: len({entry["model"] for entry in stage["results"]})]
    return stage | {"results": [*stage["results"], *({**entry, "seq_len": mean, "lengths": "task", "tokenized": True} for entry in first)]}


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


def test_the_tasks_own_length_is_another_cell_than_the_same_length_fixed(tmp_path: Path) -> None:
    stage = with_own_lengths(bench(NAMES, lengths=(32,)), 32)
    for entry in stage["results"][3:]:
        entry["latency_ms"] = {"p50": 99.0}
    folder = write_run(tmp_path / "run", {"speed": stage})
    assert report.summary(folder)[0]["p50_ms"] == 16


def test_cells_of_several_threads_are_bars_and_lines() -> None:
    stage = bench(NAMES)
    results = stage["results"] + [{**entry, "threads": 2} for entry in stage["results"]]
    assert length_chart(results, []) is not None
    assert latency_chart(results, []) is not None
    assert cell_names([(1, 1, 32, False), (2, 1, 32, False)]) == ["threads 1", "threads 2"]


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
