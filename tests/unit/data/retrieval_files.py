"""A small retrieval data set in BEIR's layout, for the tests of this folder."""

from __future__ import annotations

import json
from pathlib import Path

DOCUMENTS = [("d1", "Wings", "lift of a wing"), ("d2", "", "heat in slabs"), ("d10", "Flow", "")]
QUERIES = [("q1", "what lifts?"), ("q2", "what is hot?"), ("q3", "nothing fits")]
GRADES = [("q1", "d1", 2), ("q1", "d2", 0), ("q2", "d2", 1), ("q2", "d10", 1), ("q3", "d1", 0)]


def write_lines(path: Path, rows: list[dict[str, object]]) -> Path:
    """Write objects line by line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_judgements(path: Path, rows: list[tuple[str, str, int]]) -> Path:
    """Write judgements as BEIR does."""
    path.parent.mkdir(exist_ok=True)
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_beir(folder: Path, **judgements: list[tuple[str, str, int]]) -> Path:
    """Write a folder in BEIR's layout; the keywords are splits, by default `test`."""
    folder.mkdir(exist_ok=True)
    write_lines(folder / "corpus.jsonl", [{"_id": name, "title": title, "text": text} for name, title, text in DOCUMENTS])
    write_lines(folder / "queries.jsonl", [{"_id": name, "text": text} for name, text in QUERIES])
    for split, rows in (judgements or {"test": GRADES}).items():
        write_judgements(folder / "qrels" / f"{split}.tsv", rows)
    return folder
