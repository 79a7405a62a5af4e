"""Rows of small tasks, and files with them, for the tests of this folder."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd

from compress.data.presets import resolve
from compress.data.task import Task

ROWS = [
    ("a plain text", "yes"),
    ("quotes \" and ' and, commas", "no"),
    ("tabs are\tspaces; emoji 😀, 東京, é", "yes"),
    ("NA", "no"),
    ("null", "yes"),
    ("1.0", "no"),
    ("2024-01-31", "yes"),
    ("  spaces around  ", "no"),
    ("-", "yes"),
    ("true", "no"),
]


FORMATS = ["parquet", "csv", "csv.gz", "tsv", "jsonl", "ndjson", "json"]


def write(path: Path, rows: list[Any], columns: tuple[str, ...] = ("text", "label")) -> Path:
    """Write rows by the file's ending."""
    name = path.name.removesuffix(".gz")
    if name.endswith("parquet"):
        pd.DataFrame(rows, columns=list(columns)).to_parquet(path)
    elif name.endswith(("csv", "tsv")):
        with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8", newline="") as stream:
            csv.writer(stream, delimiter="\t" if name.endswith("tsv") else ",").writerows([columns, *rows])
    else:
        lines = [json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) for row in rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def task(**fields: Any) -> Task:
    """Make a task of one text column, `text`."""
    return Task(resolve({"text": ["text"], **fields}))


def from_rows(folder: Path, rows: list[Any], ending: str = "parquet", **fields: Any) -> Task:
    """Write rows as a training file, with a small validation file next to it, and open the task."""
    train = write(folder / f"train.{ending}", rows)
    validation = write(folder / "validation.parquet", ROWS)
    return task(train=str(train), validation=str(validation), **fields)
