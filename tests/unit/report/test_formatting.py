"""Numbers, intervals and cells as text."""

from __future__ import annotations

import math

import pytest

from compress.report import formatting


@pytest.mark.parametrize(
    ("value", "signed", "expected"),
    [(1.234, False, "1.23"), (-0.5, False, "−0.50"), (0.5, True, "+0.50"), (None, False, "–"), (math.nan, True, "–")],
)
def test_numbers(value: float | None, signed: bool, expected: str) -> None:
    assert formatting.number(value, signed=signed) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0.0004, "< 0.001"), (0.001, "0.001"), (0.032, "0.032"), (0.0949, "0.095"), (0.095, "0.10"), (0.6, "0.60")],
)
def test_p_values(value: float | None, expected: str) -> None:
    assert formatting.p_value(value) == expected


def test_intervals() -> None:
    assert formatting.interval_text([-0.01, 0.02], scale=100, signed=True) == "−1.00 to +2.00"
    assert formatting.interval_text([None, 0.02]) == formatting.interval_text(None) == ""


@pytest.mark.parametrize(
    ("name", "axis", "unit"),
    [
        ("accuracy", "accuracy, 0 to 100 points", "points of accuracy"),
        ("macro_f1", "macro F1, 0 to 100 points", "points of macro F1"),
        ("matthews", "Matthews correlation × 100", "points of Matthews correlation (× 100)"),
        ("gap_f1", "GAP F1, 0 to 100 points", "points of GAP F1"),
        ("gap_bias", "GAP bias × 100", "points of GAP bias (× 100)"),
        ("new_metric", "new metric, 0 to 100 points", "points of new metric"),
    ],
)
def test_metrics(name: str, axis: str, unit: str) -> None:
    assert (formatting.metric_axis(name), formatting.points_name(name)) == (axis, unit)


def test_cells() -> None:
    cell = {"threads": 1, "batch_size": 8, "seq_len": 41, "lengths": "fixed"}
    assert formatting.cell_text(cell) == "1 thread, batch 8, 41 tokens"
    assert formatting.length_text(cell) == "41"
    of_task = {**cell, "threads": 2, "lengths": "task"}
    assert formatting.cell_text(of_task) == "2 threads, batch 8, the task's own texts (mean 41 tokens)"
    assert formatting.length_text(of_task) == "task's own (mean 41)"


def test_runtimes() -> None:
    assert formatting.runtime_text({"runtime": "onnxruntime", "precision": "int8"}) == "ONNX Runtime int8"
    assert formatting.runtime_text({"precision": "fp32"}) == "fp32"
