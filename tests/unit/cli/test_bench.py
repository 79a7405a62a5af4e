"""The table that `bench` prints."""

from __future__ import annotations

from typing import Any

import pytest

from compress.cli.bench import cell_length, ratio_with_interval, show_benchmark
from compress.results.objects import BenchResult

Printed = pytest.CaptureFixture[str]
CELL = {"threads": 1, "batch_size": 8, "seq_len": 32, "lengths": "fixed"}
RATIO = {"ratio": 2.0, "ci95": [1.9, 2.1]}


def entry(model: str, **changes: Any) -> dict[str, Any]:
    return {
        **CELL,
        "model": model,
        "runtime": "onnxruntime",
        "precision": "int8",
        "latency_ms": {"p50": 2.0, "p90": 2.5, "p99": None, "mean": 2.1},
        "throughput_per_s": 4000.0,
        "size_mb": 12.0,
        "load_ms": None,
        "peak_rss_mb": None,
        "speedup": RATIO,
        "speedup_vs_onnx": None,
        **changes,
    }


def result(*entries: dict[str, Any], **changes: Any) -> BenchResult:
    return BenchResult({"machine": {"cpu": "a processor"}, "results": list(entries), "control": [], "waterfall": [], **changes})


def test_a_comparison_with_onnx_has_a_column_only_if_there_is_one(capsys: Printed) -> None:
    show_benchmark(result(entry("int8")))
    assert "vs ONNX fp32" not in capsys.readouterr().out
    show_benchmark(result(entry("int8"), entry("int8", speedup_vs_onnx=RATIO)))
    assert "vs ONNX fp32" in capsys.readouterr().out


def test_times_that_vary_a_lot_are_a_warning(capsys: Printed) -> None:
    busy = {"p50": 2.0, "p90": 6.1, "p99": None, "mean": 3.0}
    show_benchmark(result(entry("calm"), entry("int8", latency_ms=busy), entry("int8", latency_ms=busy)))
    assert "the times of int8 vary a lot (p90 over 3 times p50)" in capsys.readouterr().err


def test_the_control_and_the_cost_of_padding(capsys: Printed) -> None:
    control = {**CELL, "lengths": "task", "ratio": 1.01, "ci95": [0.99, 1.02], "padding": RATIO}
    show_benchmark(result(entry("int8"), control=[control]))
    out = capsys.readouterr().out
    assert "A/A control (threads 1, batch 8, length task's, mean 32): 1.010 [0.990, 1.020]" in out
    assert "length task's, mean 32): 2.00x [1.90, 2.10] slower" in out


def test_factors_of_the_speedup_take_two_models_in_between(capsys: Printed) -> None:
    step = {"what": "pruning", "ratio": 2.0}
    for steps in ([step], [step, {"what": "int8", "ratio": 1.5}]):
        show_benchmark(result(entry("int8"), waterfall=[{**CELL, "steps": steps}]))
        factors = "factors of the speedup (batch 8, length 32): 2.00 (pruning) x 1.50 (int8)" in capsys.readouterr().out
        assert factors == (len(steps) > 1)


def test_lengths_and_ratios_as_text() -> None:
    cell: Any = CELL
    ratio: Any = RATIO
    assert (cell_length(cell), cell_length({**cell, "lengths": "task"})) == ("32", "task's, mean 32")
    assert (ratio_with_interval(ratio), ratio_with_interval(None)) == ("2.00x [1.90, 2.10]", "-")
