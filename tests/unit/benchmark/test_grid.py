"""Candidates and cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compress.benchmark.grid import Candidate, Cell, candidates_of, grid_cells
from compress.core import artifacts, files
from compress.core.errors import UsageError
from compress.export import RUNTIME_HINTS
from compress.settings import BenchSettings
from tests import tiny

Maker = Callable[..., Path]


def test_candidates_are_told_apart(checkpoint: Maker, artifact: Maker) -> None:
    vocab = len(tiny.vocabulary())
    assert candidates_of("a", checkpoint(), BenchSettings()) == [Candidate("a", checkpoint(), "pytorch", "fp32", vocab)]
    folder = artifact(checkpoint(), "int8")
    assert candidates_of("b", folder, BenchSettings()) == [Candidate("b", folder, "onnxruntime", "int8", vocab)]
    (folder / artifacts.MANIFEST).unlink()
    assert candidates_of("b", folder, BenchSettings())[0].precision == "fp32"
    both = candidates_of("b", folder, BenchSettings(runtime=["auto", "openvino"], precision="bf16"))
    assert [(c.name, c.runtime, c.precision) for c in both] == [("b", "onnxruntime", "fp32"), ("b (openvino)", "openvino", "bf16")]
    with pytest.raises(UsageError, match="a is a checkpoint, which openvino does not run"):
        candidates_of("a", checkpoint(), BenchSettings(runtime=["openvino"]))


@pytest.mark.parametrize(
    ("routes", "runtime", "precision"),
    [
        (["openvino"], "openvino", "bf16"),
        (["onnxruntime"], "onnxruntime", "fp32"),
        (["onnxruntime", "openvino"], "onnxruntime+openvino", "fp32"),
        (["openvino", "onnxruntime"], "onnxruntime+openvino", "fp32"),
    ],
)
def test_auto_is_what_an_artifact_records(checkpoint: Maker, artifact: Maker, routes: list[str], runtime: str, precision: str) -> None:
    folder = artifact(checkpoint())
    limits = [*range(4, 4 * len(routes), 4), None]
    recorded = [{"up_to": limit, "runtime": name} for limit, name in zip(limits, routes, strict=True)]
    hints = RUNTIME_HINTS | {"routes": recorded, "openvino": {"precision": "bf16"}}
    files.write_json(folder / artifacts.MANIFEST, {"precision": "fp32", "runtime": hints})
    result = candidates_of("a", folder, BenchSettings())[0]
    assert (result.runtime, result.precision) == (runtime, precision)
    assert candidates_of("a", folder, BenchSettings(runtime=["onnxruntime"]))[0].runtime == "onnxruntime"
    assert candidates_of("a", folder, BenchSettings(runtime=["openvino"], precision="fp32"))[0].precision == "fp32"
    assert candidates_of("a", folder, BenchSettings(device="cuda"))[0].runtime == "onnxruntime"


def test_the_grid_is_every_combination(checkpoint: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    candidates = candidates_of("a", checkpoint(), BenchSettings())
    settings = BenchSettings(threads=[1, 2], batch_size=[1, 8], seq_len=[4, 1000, 2000], task_lengths=True)
    cells = grid_cells(candidates, settings)
    assert cells == [Cell(threads, batch, length) for threads in (1, 2) for batch in (1, 8) for length in (4, tiny.POSITIONS, None)]
    assert f"timed at {tiny.POSITIONS}" in capsys.readouterr().err
