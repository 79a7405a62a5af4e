"""Collections of texts with ids."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compress.core.errors import DataError
from compress.data.collection import Collection, read_collection
from compress.data.sources import FileSource
from compress.data.streamed import StreamedTexts
from tests.unit.data.retrieval_files import write_beir, write_lines


def read(path: Path, **options: int) -> Collection:
    return read_collection(FileSource((path,)), **options)


def test_titles_come_before_texts(tmp_path: Path) -> None:
    corpus = read(write_beir(tmp_path) / "corpus.jsonl")
    assert corpus.ids == ["d1", "d2", "d10"]
    assert list(corpus.texts) == [("Wings lift of a wing",), ("heat in slabs",), ("Flow",)]
    assert corpus.positions(["d10", "nothing"]) == {"d10": 2}
    assert corpus.ranks.tolist() == [0, 2, 1]  # d1, d10, d2
    assert len(corpus) == 3


def test_a_large_collection_is_streamed_with_the_same_texts(tmp_path: Path) -> None:
    whole, streamed = (read(write_beir(tmp_path) / "corpus.jsonl", in_memory=size) for size in (1 << 20, 10))
    assert isinstance(streamed.texts, StreamedTexts)
    assert list(streamed.texts) == list(whole.texts)
    assert streamed.ids == whole.ids
    some = np.array([2, 0, 2])
    assert list(streamed.take(some)) == list(whole.take(some)) == [("Flow",), ("Wings lift of a wing",), ("Flow",)]


def test_other_tables_and_numbers_as_ids(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": [3, 4], "text": ["a", "b"], "metadata": [1.0, 2.0]})
    frame.to_parquet(tmp_path / "corpus.parquet")
    (tmp_path / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"_id": 3, "text": "a"}\n\n{"text": "b", "_id": "4", "title": "T"}\n'))
    assert read(tmp_path / "corpus.parquet").ids == read(tmp_path / "corpus.jsonl.gz").ids == ["3", "4"]
    assert list(read(tmp_path / "corpus.jsonl.gz").texts) == [("a",), ("T b",)]  # a row may lack the title


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"_id": "a", "text": "x"}, {"_id": "b"}], r"line 2 of .*c\.jsonl has no 'text'"),
        ([{"_id": "a", "text": "x"}, {"text": "y"}], r"line 2 of .*c\.jsonl has no '_id'"),
        ([{"_id": "a", "text": ["x"]}], r"line 1 of .*c\.jsonl has a list as 'text'"),
        ([{"_id": "a", "txt": "x"}], r"c\.jsonl has no column 'text' \(did you mean 'txt'\?\); it has: _id, txt"),
        ([{"doc": "a", "text": "x"}], r"c\.jsonl has no column '_id'.*; it has: doc, text"),
        ([{"_id": name, "text": "x"} for name in "abca"], r"line 4 of .*c\.jsonl has the id 'a' again, as line 1 of"),
        ([], r"c\.jsonl has no rows"),
    ],
)
def test_what_is_no_collection(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(write_lines(tmp_path / "c.jsonl", rows))
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_file_that_is_not_text_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_bytes(b'{"_id": "a", "text": "x"}\n{"_id": "b", "text": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"line 2 of .*c\.jsonl is not UTF-8 text"):
        read(tmp_path / "c.jsonl")
