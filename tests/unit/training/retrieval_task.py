"""A tiny retrieval data set that an encoder can learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests import tiny
from tests.unit.data.retrieval_files import write_judgements, write_lines

QUERIES = 20


def write_retrieval(folder: Path) -> dict[str, Any]:
    """Write a corpus of tiny sentences; every other word of a document is the query that it answers. Returns an embedder's task."""
    folder.mkdir()
    texts = [text for text, _ in tiny.sentences(2 * QUERIES, seed=8)]
    write_lines(folder / "corpus.jsonl", [{"_id": f"d{number}", "text": text} for number, text in enumerate(texts)])
    queries = [" ".join(text.split()[::2]) for text in texts[:QUERIES]]
    write_lines(folder / "queries.jsonl", [{"_id": f"q{number}", "text": query} for number, query in enumerate(queries)])
    write_judgements(folder / "qrels" / "test.tsv", [(f"q{number}", f"d{number}", 1) for number in range(QUERIES)])
    return {"kind": "sentence-embedding", "beir": str(folder), "shares": [0.6, 0.4, 0]}
