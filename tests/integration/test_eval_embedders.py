"""The evidence on embedders and rerankers, in full, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval import embedders
from tests import tiny
from tests.unit.eval.test_embedders import write_collections


def test_both_tables_of_tiny_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path
    write_collections(data)
    monkeypatch.setattr(embedders, "MODEL", str(tiny.write_embedder(data / "model")))
    given = ["--data", str(data), "--corpora", "cranfield", "--flops", "--epochs", "1", "-o", str(data / "out")]
    assert embedders.main(["embedder", *given, "--pruned", "1.3", "--distilled", "1.5", "--max-texts", "16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| model | nDCG@10, cranfield, n = 20 | kept | STS, Spearman |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| dense", "| 1.3x, pruned", "| 1.5x, distilled"]
    assert "100.00 % [100.00, 100.00]" in lines[2]
    assert len(list((data / "out" / "scores").glob("*.npy"))) == 3
    before: Any = json.loads((data / "out" / "student-1.5x" / "compress.json").read_text())["created"]
    assert embedders.main(["embedder", *given, "--pruned", "1.3", "--distilled", "1.5", "--max-texts", "16"]) == 0
    assert json.loads((data / "out" / "student-1.5x" / "compress.json").read_text())["created"] == before
    assert embedders.main(["reranker", *given]) == 0
    assert "| 3x, distilled, int8 |" in capsys.readouterr().out
