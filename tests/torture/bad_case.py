"""A bad input: how it is built, the command that meets it, its exit code and a fragment of its message."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.torture import small

Build = Callable[[Path], object]


@dataclass(frozen=True)
class Bad:
    """An input and what the command must say.

    `build` changes a fresh copy of the small inputs; `arguments` is the command. With exit code 0 the input is unusual but good, and
    `says` is a fragment of what is printed (a warning, or nothing). `prepare` is called in the command's process.
    """

    item: str
    name: str
    arguments: list[str]
    code: int
    says: str
    build: Build = lambda work: None
    prepare: Callable[[], object] | None = None
    stdin: bytes | None = None
    more: tuple[list[str], ...] = field(default=())  # commands that must succeed before


def recipe_document() -> dict[str, Any]:
    """Return the small recipe's document, to change."""
    task = {"name": "tiny", "text": ["text"], "labels": ["animal", "food", "colour"], "max_length": 32}
    task |= {split: f"data/{split}.parquet" for split in ("train", "validation", "test")}
    return {"schema": 1, "name": "small", "seed": 3, "model": "./model", "task": task, "stages": copy.deepcopy(small.STAGES)}


def written(text: str | bytes, name: str = "bad.yaml") -> Build:
    """Return a function that writes a file."""
    return lambda work: (work / name).write_bytes(text.encode() if isinstance(text, str) else text)


def changed(change: Callable[[dict[str, Any]], object], name: str = "bad.yaml") -> Build:
    """Return a function that writes the small recipe with a change."""

    def build(work: Path) -> None:
        document = recipe_document()
        change(document)
        (work / name).write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")

    return build


def json_changed(path: str, **changes: Any) -> Build:
    """Return a function that changes keys of a JSON file (None: drops them)."""

    def build(work: Path) -> None:
        document = json.loads((work / path).read_text(encoding="utf-8")) | changes
        document = {key: value for key, value in document.items() if value is not DROPPED}
        (work / path).write_text(json.dumps(document), encoding="utf-8")

    return build


DROPPED: Any = object()


def split_header(weights: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the tensors of a safetensors file."""
    (length,) = struct.unpack("<Q", weights[:8])
    return json.loads(weights[8 : 8 + length]), weights[8 + length :]


def with_header(header: bytes, tensors: bytes, length: int | None = None) -> bytes:
    """Return a safetensors file with this header, which may lie about its length."""
    return struct.pack("<Q", len(header) if length is None else length) + header + tensors
