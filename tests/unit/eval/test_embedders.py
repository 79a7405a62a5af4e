"""The evidence on embedders and rerankers: its texts, its table, and a run on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eval import embedders
from tests import tiny
from tests.unit.training.retrieval_task import write_retrieval


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A corpus, and a table with two columns of text and one of labels."""
    write_retrieval(tmp_path / "cranfield")
    (tmp_path / "sts").mkdir()
    for split in ("train", "test"):
        rows = {"sentence1": ["the dog", "we", "my cat"], "sentence2": ["the cat", "soup", "my dog"], "label": [4.0, 1.0, 3.0]}
        pd.DataFrame({**rows, "tokens": [["the", "tea"], ["a"], ["red"]]}).to_parquet(tmp_path / "sts" / f"{split}.parquet")
    return tmp_path


def test_texts_are_documents_and_text_columns(data: Path) -> None:
    texts = list(embedders.read_texts(data, ["cranfield"]))
    assert len(texts) == 40 + 9
    assert texts[40:] == ["the dog", "we", "my cat", "the cat", "soup", "my dog", "the tea", "a", "red"]


def test_what_is_kept_is_the_mean_over_corpora() -> None:
    first, second = [np.array([0.5, 0.5]), np.array([0.2, 0.4])], [np.array([0.5, 0.4]), np.array([0.3, 0.3])]
    share, low, high = embedders.kept(first, second)
    assert share == pytest.approx((0.9 + 1) / 2)
    assert low < share < high
    assert embedders.kept(first, first) == (1, 1, 1)


def test_both_tables_of_tiny_models(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
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
