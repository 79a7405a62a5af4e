"""Percentiles, speedups and the waterfall, on given times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compress.benchmark.grid import Candidate, Cell
from compress.benchmark.latency_results import cell_results, changes, control, latency_percentiles, speedup_waterfall
from compress.benchmark.static_facts import NOT_MEASURED, StaticFacts
from compress.benchmark.workload import CONTROL, PADDED
from compress.core import artifacts, files
from compress.settings import BenchSettings

CELL = Cell(1, 4, 32).as_json(32)
pytestmark = pytest.mark.usefixtures("few_resamples")


def test_speedups_are_ratios_to_the_first_model_and_to_the_first_float_graph() -> None:
    models = [
        Candidate("torch", Path(), "pytorch", "fp32", 9),
        Candidate("int8", Path(), "onnxruntime", "int8", 9),
        Candidate("graph", Path(), "onnxruntime", "fp32", 9),
    ]
    drift = np.exp(np.random.default_rng(0).normal(0, 1, 40))
    times = {"torch": 6 * drift, "int8": 1 * drift, "graph": 2 * drift, CONTROL: 6 * drift}
    static: dict[str, StaticFacts] = {model.name: {"size_mb": 1.0, "runs_on": [], **NOT_MEASURED} for model in models}
    results = cell_results(models, times, CELL, static, BenchSettings())
    assert [entry["speedup"]["ratio"] for entry in results] == pytest.approx([1, 6, 3])
    assert [entry["speedup_vs_onnx"]["ratio"] for entry in results] == pytest.approx([1 / 3, 2, 1])
    assert {entry["speedup"]["vs"] for entry in results} == {"torch"}
    assert {entry["speedup_vs_onnx"]["vs"] for entry in results} == {"graph"}
    assert results[0]["throughput_per_s"] == pytest.approx(4 / np.median(times["torch"]))
    without = cell_results(models[:2], times, CELL, static, BenchSettings())
    assert [entry["speedup_vs_onnx"] for entry in without] == [None, None]


def test_a_tail_needs_samples() -> None:
    seconds = np.arange(1, 102) / 1000
    assert latency_percentiles(seconds) == {
        "p50": pytest.approx(51),
        "p90": pytest.approx(91),
        "p99": pytest.approx(100),
        "mean": pytest.approx(51),
    }
    assert latency_percentiles(seconds[:99])["p99"] is None


def test_a_waterfall_multiplies_to_the_total() -> None:
    names = {"torch": ("pytorch", "fp32"), "slow": ("pytorch", "fp32"), "graph": ("onnxruntime", "fp32"), "int8": ("onnxruntime", "int8")}
    models = [Candidate(name, Path(), *kind, 9) for name, kind in names.items()]
    drift = np.exp(np.random.default_rng(0).normal(0, 1, 30))
    times = {name: seconds * drift for name, seconds in {"torch": 12.0, "slow": 15.0, "graph": 6.0, "int8": 2.0}.items()}
    result = speedup_waterfall(models, times, CELL)
    assert result is not None
    assert [(step["from"], step["to"], step["what"]) for step in result["steps"]] == [
        ("torch", "graph", "runtime"), ("graph", "int8", "int8"),
    ]  # fmt: skip
    assert np.prod([step["ratio"] for step in result["steps"]]) == pytest.approx(result["total"]["ratio"]) == pytest.approx(6)
    assert speedup_waterfall(models[:1], times, CELL) is None


def test_the_control_is_the_first_model_against_itself() -> None:
    models = [Candidate("a", Path(), "pytorch", "fp32", 9), Candidate("b", Path(), "onnxruntime", "fp32", 9)]
    times = {"a": np.full(5, 2.0), "b": np.full(5, 1.0), CONTROL: np.full(5, 2.2), PADDED: np.full(5, 3.0)}
    document = control(models, times, CELL)
    assert document["ratio"] == pytest.approx(2.0 / 2.2)
    assert document.get("padding", {}).get("ratio") == pytest.approx(3)
    assert "padding" not in control(models, {name: times[name] for name in ("a", "b", CONTROL)}, CELL)


def test_what_changed_between_two_models(tmp_path: Path) -> None:
    for name, params in (("large", 100), ("small", 10)):
        (tmp_path / name).mkdir()
        files.write_json(tmp_path / name / artifacts.MANIFEST, {"params": params})
    large = Candidate("a", tmp_path / "large", "pytorch", "fp32", 9)
    small = Candidate("b", tmp_path / "small", "onnxruntime", "int8", 9)
    assert changes(large, small) == "runtime + smaller model + int8"
    assert changes(small, large) == "runtime + larger model + fp32"
    assert changes(large, large) == "weights"
