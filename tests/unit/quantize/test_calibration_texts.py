"""Texts to calibrate on: unusable files, and fewer texts than a batch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import CompressError, DataError
from tests.unit.quantize.stage import run


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", "", "has no texts"),
        ("blank.txt", "\n \n", "has no texts"),
        ("missing.txt", None, "missing.txt"),
        ("columns.csv", "other\nred dog\n", "has no column 'text'"),
        ("latin.txt", "caf\xe9".encode("latin-1"), "not UTF-8"),
    ],
)
def test_calibration_files_that_will_not_do(graph: Path, name: str, content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        run(graph, tmp_path / "out", method="static", unlabeled=str(path))
    assert re.search(message, str(caught.value))
    assert isinstance(caught.value, CompressError)


@pytest.mark.parametrize("method", ["minmax", "entropy"])
def test_fewer_texts_than_a_batch_calibrate_with_a_warning(
    graph: Path, method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.txt").write_text("the red dog\n", encoding="utf-8")
    made = run(graph, tmp_path / "out", method="static", calib_method=method, unlabeled=str(tmp_path / "one.txt"))
    assert made["calibration"]["examples"] == 1
    assert "calibrated on 1 texts" in capsys.readouterr().err
