"""What an artifact was made for, and a simulated processor lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core import console, machine
from compress.inference import artifact as module
from compress.inference.artifact import OnnxModel
from compress.inference.processor import lacking_instruction_sets, saturates, warn_of_lacking
from tests.unit.inference.test_serving import make_artifact

MADE_HERE = ["avx2", "avx512f", "avx512_vnni", "avx512_bf16"]


def manifest(**entries: Any) -> dict[str, Any]:
    """Return what `quantize` records."""
    return {"verb": "quantize", "weights": "int8 per channel", "instruction_sets": MADE_HERE, **entries}


@pytest.fixture(autouse=True)
def _nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console._state, "shown", set())


@pytest.mark.parametrize(
    ("flags", "recorded", "expected"),
    [
        (["avx2"], MADE_HERE, "AVX-512 and AVX512-VNNI"),
        (["avx2", "avx512f"], MADE_HERE, "AVX512-VNNI"),
        (["avx2", "avx_vnni"], MADE_HERE, "AVX-512"),
        (["avx2", "avx512f", "avx512_vnni"], MADE_HERE, ""),
        (["avx2", "avx512f", "avx512_vnni"], [*MADE_HERE, "amx_int8"], "AMX-INT8"),
        (["avx2"], ["avx512_vnni", "avx_vnni"], "AVX512-VNNI"),
        (["avx2", "avx_vnni"], ["avx512_vnni", "avx_vnni"], ""),
        (["asimd", "asimddp"], MADE_HERE, "AVX2 and AVX-512"),
        ([], MADE_HERE, ""),  # nothing is known
        (["avx2"], ["cuda"], ""),
        (["avx2"], None, ""),
        (["avx2"], "cuda", ""),
    ],
)
def test_what_a_processor_lacks(flags: list[str], recorded: Any, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    assert lacking_instruction_sets(manifest(instruction_sets=recorded)) == expected


def test_it_is_said_once_and_what_to_type(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: ["avx2"])
    for _ in range(2):
        warn_of_lacking(manifest(), Path("models/int8"))
    said = capsys.readouterr().err
    assert said.count("int8 was made for a processor with AVX-512 and AVX512-VNNI, which this one lacks") == 1
    assert "compress quantize MODEL -o DIR" in said
    assert "exact, slower form" in said


def test_bfloat16_in_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "emulates_bf16", lambda: True)
    assert lacking_instruction_sets({"runtime": {"openvino": {"precision": "bf16"}}}) == "bfloat16 matmuls"
    assert lacking_instruction_sets({"runtime": {"openvino": {"precision": "fp32"}}}) == ""
    assert lacking_instruction_sets({"runtime": 5}) == ""


@pytest.mark.parametrize(
    ("flags", "weights", "expected"),
    [
        (["avx2"], "int8 per channel", True),
        (["avx2"], "int8 per channel, 7 bits", False),
        (["avx2", "avx_vnni"], "int8 per channel", False),
        ([], "int8 per channel", False),
    ],
)
def test_products_that_saturate_are_computed_exactly(
    flags: list[str], weights: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: flags)
    assert saturates(manifest(weights=weights)) is expected
    hints: list[Any] = []
    monkeypatch.setattr(module, "open_session", lambda *arguments: hints.append(arguments[3]))
    monkeypatch.setattr(module.artifacts, "read_manifest", lambda folder: manifest(weights=weights, runtime={"session_config": {"a": "1"}}))
    OnnxModel(make_artifact(tmp_path)).session  # noqa: B018 (opened by looking at it)
    expected_config = {"a": "1", "session.x64quantprecision": "1"} if expected else {"a": "1"}
    assert hints == [{"session_config": expected_config}]
