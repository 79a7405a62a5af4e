"""Texts that are streamed from their files, and tokens that are kept on disk: the same as in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.data import encoding
from compress.data.encoding import encode
from compress.data.examples import Examples, overlap
from compress.data.presets import resolve
from compress.data.streamed import StreamedTexts
from compress.data.task import Task
from compress.data.token_store import TokenRows, TokenWriter
from compress.models.tokenizer import load_tokenizer
from tests import tiny

TEXTS = [(f"text {number}",) for number in range(30)]


def streamed(rows: list[int] | None = None) -> StreamedTexts:
    return StreamedTexts(lambda: iter(TEXTS), np.arange(len(TEXTS)) if rows is None else np.array(rows))


def test_streamed_texts_are_a_sequence() -> None:
    assert list(streamed()) == list(streamed()) == TEXTS
    assert list(streamed([3, 4, 29])) == [TEXTS[3], TEXTS[4], TEXTS[29]]
    assert streamed([3, 7])[1] == streamed([3, 7])[-1] == TEXTS[7]
    assert streamed()[2:8:3] == TEXTS[2:8:3]
    with pytest.raises(IndexError):
        streamed()[30]


@given(st.lists(st.integers(0, 29), max_size=40))
def test_taking_is_as_from_a_list(positions: list[int]) -> None:
    labels = np.arange(30)
    of_list, of_stream = Examples(TEXTS, labels).take(positions), Examples(streamed(), labels).take(positions)
    assert list(of_stream.texts) == of_list.texts
    assert of_stream.labels.tolist() == of_list.labels.tolist()


def test_many_ascending_positions_stay_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.data.streamed.VIEWED", 3)
    view = streamed().take(np.array([1, 5, 6, 20]))
    assert isinstance(view, StreamedTexts)
    assert list(view) == [TEXTS[1], TEXTS[5], TEXTS[6], TEXTS[20]]
    assert view.take(np.array([2, 0])) == [TEXTS[6], TEXTS[1]]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl.gz"])
def test_a_streamed_task_is_the_task_in_memory(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"train.{ending}"
    frame = pd.DataFrame({"text": [f"a dog {n}" for n in range(300)], "label": ["yes", "no", "no"] * 100})
    {"parquet": frame.to_parquet, "csv": lambda p: frame.to_csv(p, index=False)}.get(
        ending, lambda p: frame.to_json(p, orient="records", lines=True)
    )(path)
    spec = resolve({"text": ["text"], "train": str(path)})
    whole, large = Task(spec), Task(spec, in_memory=0)
    assert large.fingerprint == whole.fingerprint
    for split in ("train", "validation"):
        assert list(large.split(split).texts) == whole.split(split).texts
        assert large.split(split).labels.tolist() == whole.split(split).labels.tolist()
    assert overlap(large.split("train"), large.split("validation")) == 0


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_tokens_on_disk_are_those_in_memory(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "BLOCK", 5)
    tiny.write_tokenizer(tmp_path, name)
    tokenizer = load_tokenizer(tmp_path)
    texts: list[tuple[str, ...]] = [("dog " * n,) for n in (0, 1, 5, 7, 8, 9, 200)]
    texts += [("\u200b " * 300,), ("x" * 500 + " a dog",), ("a  dog " + "a" * 70 + " cat the " * 40,), ("😀 " * 90,)]
    texts += [("dog cat", "the " * 90)]
    labels = np.arange(len(texts))
    whole = encode(tokenizer, texts, labels, 8, 0)
    stored = encode(tokenizer, StreamedTexts(lambda: iter(texts), labels), labels, 8, 0)
    assert isinstance(stored.input_ids, TokenRows)
    assert [row.tolist() for row in stored.input_ids] == [row.tolist() for row in whole.input_ids]
    assert stored.lengths.tolist() == whole.lengths.tolist()
    assert stored.starts.tolist() == whole.starts.tolist()
    for batch in ([0, 3], [11, 6, 1]):
        for key, array in whole.batch(batch).items():
            np.testing.assert_array_equal(stored.batch(batch)[key], array)
    assert [row.tolist() for row in stored.take([6, 2]).input_ids] == [whole.input_ids[6].tolist(), whole.input_ids[2].tolist()]


def test_rows_on_disk() -> None:
    writer = TokenWriter(np.int32, 100)
    writer.write([[1, 2, 3], []])
    writer.write([[70_000]])
    rows = writer.finish()
    assert [row.tolist() for row in rows] == [[1, 2, 3], [], [70_000]]
    assert rows[-1].dtype == np.int64
    assert [row.tolist() for row in rows[:2]] == [[1, 2, 3], []]
    with pytest.raises(IndexError):
        rows[3]


def test_a_full_disk_is_told_before_tokenizing() -> None:
    from compress.core.errors import ResourceError

    with pytest.raises(ResourceError, match="free"):
        TokenWriter(np.int32, 1 << 60)


def test_training_on_a_stream_is_training_in_memory(checkpoint: Callable[..., Path], tiny_task: dict[str, Any], tmp_path: Path) -> None:
    from compress import training
    from compress.core import digests
    from compress.settings import FinetuneSettings
    from compress.stage import Inputs

    settings = FinetuneSettings(epochs=1, batch_size=16, precision="fp32")
    for name, in_memory in (("memory", 1 << 30), ("stream", 0)):
        task = Task(resolve(tiny_task), in_memory)
        output = tmp_path / name
        output.mkdir()
        training.run(Inputs({"model": checkpoint()}, 0, task), settings, output)
    assert digests.digest_file(tmp_path / "memory" / "model.safetensors") == digests.digest_file(tmp_path / "stream" / "model.safetensors")
