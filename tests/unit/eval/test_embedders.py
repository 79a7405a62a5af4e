"""The evidence on embedders and rerankers: its texts and its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from eval import embedders
from tests.unit.training.retrieval_task import write_retrieval


def write_collections(folder: Path) -> None:
    """Write a corpus, and a table with two columns of text and one of labels."""
    write_retrieval(folder / "cranfield")
    (folder / "sts").mkdir()
    for split in ("train", "test"):
        rows = {"sentence1": ["the dog", "we", "my cat"], "sentence2": ["the cat", "soup", "my dog"], "label": [4.0, 1.0, 3.0]}
        pd.DataFrame({**rows, "tokens": [["the", "tea"], ["a"], ["red"]]}).to_parquet(folder / "sts" / f"{split}.parquet")


def test_texts_are_documents_and_text_columns(tmp_path: Path) -> None:
    write_collections(tmp_path)
    texts = list(embedders.read_texts(tmp_path, ["cranfield"]))
    assert len(texts) == 40 + 9
    assert texts[40:] == ["the dog", "we", "my cat", "the cat", "soup", "my dog", "the tea", "a", "red"]


def test_what_is_kept_is_the_mean_over_corpora() -> None:
    first, second = [np.array([0.5, 0.5]), np.array([0.2, 0.4])], [np.array([0.5, 0.4]), np.array([0.3, 0.3])]
    share, low, high = embedders.kept(first, second)
    assert share == pytest.approx((0.9 + 1) / 2)
    assert low < share < high
    assert embedders.kept(first, first) == (1, 1, 1)
