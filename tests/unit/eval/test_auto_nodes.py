"""The stages of a search as a graph, with the times that it spent on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.core import artifacts
from eval.auto_nodes import search_works
from eval.scaling import Work, critical_path

STAGES: list[dict[str, Any]] = [
    {"stage": "teacher", "verb": "finetune", "settings": {}, "inputs": {"model": "0"}},
    {"stage": "slim", "verb": "prune", "settings": {"target_speedup": [2.0, 4.0]}, "inputs": {"teacher": "1"}},
    {"stage": "student-4x-1", "verb": "distill", "settings": {}, "inputs": {"slim/4x": "2", "teacher": "1"}},
    {"stage": "int8-4x-1", "verb": "quantize", "settings": {"tune": True}, "inputs": {"student-4x-1": "3"}},
    {"stage": "words", "verb": "prune", "settings": {"method": "vocab", "target_speedup": None}, "inputs": {"slim/2x": "2"}},
]


def test_a_search_is_read(tmp_path: Path) -> None:
    entries: dict[str, Any] = {"shapes": {"reused": False, "seconds": 15.0}, "killed": {"reused": False, "seconds": None}}
    for number, stage in enumerate(STAGES):
        folder = tmp_path / "stages" / f"{stage['verb']}-{number:016x}"
        folder.mkdir(parents=True)
        (folder / artifacts.MANIFEST).write_text(json.dumps({**stage, "key": str(number), "seconds": 99.0}), encoding="utf-8")
        entries[str(number)] = {"reused": False, "seconds": 10.0 + number}
    other = tmp_path / "stages" / "eval-0123456789abcdef"  # of another search in the store
    other.mkdir()
    (other / artifacts.MANIFEST).write_text(json.dumps({**STAGES[0], "key": "other"}), encoding="utf-8")
    (tmp_path / "search.json").write_text(json.dumps({"entries": entries}), encoding="utf-8")
    works = search_works(tmp_path)
    assert works == {
        "teacher": Work(10.0),
        "slim": Work(11.0, ("teacher",), timed=True),
        "student-4x-1": Work(12.0, ("slim", "teacher")),
        "int8-4x-1": Work(13.0, ("student-4x-1",), timed=True),
        "words": Work(14.0, ("slim",)),
    }
    assert critical_path(works) == 46.0
