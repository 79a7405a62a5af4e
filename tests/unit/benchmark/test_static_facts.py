"""Size, cold start and peak memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from compress.benchmark import static_facts as static_facts_module
from compress.benchmark.grid import Candidate
from compress.benchmark.static_facts import NOT_MEASURED, measure_cold_start, static_facts


def test_memory_that_cannot_be_measured_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        static_facts_module.subprocess, "run", lambda *args, **kwargs: SimpleNamespace(returncode=1, stderr="trace\nlast line\n", stdout="")
    )
    assert measure_cold_start(Candidate("model", tmp_path, "pytorch", "fp32", 9), "cpu") == NOT_MEASURED
    assert "last line" in capsys.readouterr().err


def test_the_size_is_that_of_the_weights(tmp_path: Path) -> None:
    for name, size in (("model.onnx", 3000), ("openvino.onnx", 500), ("tokenizer.json", 70_000)):
        (tmp_path / name).write_bytes(bytes(size))
    facts = static_facts(Candidate("model", tmp_path, "onnxruntime", "fp32", 9), ["CPU"], "cpu", memory=False)
    assert facts == {"size_mb": 0.0035, "runs_on": ["CPU"], **NOT_MEASURED}
