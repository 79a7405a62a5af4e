"""The table: slower and failed candidates are in it, and nothing breaks its columns."""

from __future__ import annotations

from typing import Any

from harness import results


def cell(length: int, p50: float, ratio: float) -> dict[str, Any]:
    return {
        "threads": 1, "batch_size": 1, "seq_len": length, "rounds": 100, "latency_ms": {"p50": p50, "p90": p50, "mean": p50},
        "speedup": {"vs": "PyTorch fp32", "ratio": ratio, "ci95": [ratio - 0.1, ratio + 0.1]},
    }  # fmt: skip


def row(name: str, accuracy: float, times: list[float], **more: Any) -> dict[str, Any]:
    cells = [cell(length, p50, 10 / p50) for length, p50 in zip((16, 32), times, strict=True)]
    return {
        "name": name, "peer": more.pop("peer", "pytorch"), "variant": "x", "size_mb": 90.9, "split": "validation", "n": 872,
        "metrics": {"accuracy": accuracy}, "ci95": {"accuracy": [accuracy - 0.02, accuracy + 0.02]}, "cells": cells,
        "versions": {"python": "3.11", "torch": "2.13.0", "NumPy": "2.4", "left-out": "1"}, **more,
    }  # fmt: skip


TABLE: dict[str, Any] = {
    "model": "builtin:minilm-l6",
    "task": "sst2",
    "main_metric": "accuracy",
    "candidates": [
        row("PyTorch fp32", 0.876, [10.0, 20.0]),
        row("compress int8", 0.875, [2.0, 4.0], peer="compress", vs_first={"p_value": 1.0}),
        row("Slow", 0.876, [20.0, 40.0], vs_first={"p_value": 0.5}),
        {"name": "Gone", "peer": "openvino", "variant": "int8", "reason": "no wheel | for this\nPython"},
    ],
    "control": [cell(16, 10.1, 1.0)],
}
DOCUMENT: dict[str, Any] = {
    "suite": {"name": "short", "description": "one encoder"},
    "quick": False,
    "created": "2030-01-01T00:00:00+00:00",
    "seconds": 600.0,
    "machine": {
        "cpu": "A CPU", "cores": 2, "instruction_sets": ["AVX2"], "memory_gib": 16.0, "system": "Linux", "python": "3.11",
        "compress": "0.1.0", "governor": None,
    },
    "tables": [TABLE],
}  # fmt: skip


def test_every_candidate_has_a_row_and_every_row_all_columns() -> None:
    lines = [line for line in results.task_table(TABLE) if line.startswith("|")]
    assert {line.count("|") for line in lines} == {6}
    names = [line.split("|")[1].strip() for line in lines]
    assert names == ["candidate", "---", "PyTorch fp32", "compress int8", "Slow", "Gone", "A/A control"]


def test_cells_and_accuracy_have_intervals() -> None:
    text = "\n".join(results.task_table(TABLE))
    assert "accuracy on validation, n = 872; 100 rounds a cell." in text
    assert "| compress int8 | 87.5 [85.5, 89.5] (1.00) | 90.9 | 2.00 (5.00x [4.90, 5.10]) | 4.00 (2.50x [2.40, 2.60]) |" in text
    assert "| Slow | 87.6 [85.6, 89.6] (0.50) | 90.9 | 20.00 (0.50x [0.40, 0.60]) |" in text
    assert "| Gone | not measured: no wheel / for this Python |" in text
    assert "| A/A control |  |  | 10.10 (1.00x [0.90, 1.10]) |  |" in text


def test_the_page_has_machine_and_versions() -> None:
    text = results.page(DOCUMENT)
    assert "Suite `short` (one encoder)" in text
    assert "A CPU, 2 cores (AVX2)" in text
    assert "- pytorch: python 3.11, torch 2.13.0, numpy 2.4\n" in text
    assert "left-out" not in text
    assert "quick run" not in text


def test_a_quick_run_says_so() -> None:
    assert "Its numbers are no results" in results.page(DOCUMENT | {"quick": True})
