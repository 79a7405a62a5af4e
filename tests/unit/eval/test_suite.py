"""Suites are strict: every key, verb, setting and variant is checked before anything is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import suite
from harness.suite import Suite
from peers import PEERS

from compress.core.errors import DataError, RecipeError

DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "name": "small",
    "models": ["builtin:minilm-l6"],
    "tasks": ["sst2"],
    "ours": {"int8": [{"do": "quantize"}]},
    "cells": [{"batch_size": 1, "seq_len": 16}],
}


def load(tmp_path: Path, **changes: Any) -> Suite:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (DOCUMENT | changes).items() if value is not None}), encoding="utf-8")
    return suite.load(path)


@pytest.mark.parametrize("name", ["short", "glue"])
def test_the_suites_of_this_project_are_sound(name: str, eval_folder: Path) -> None:
    path = eval_folder / "suites" / f"{name}.yaml"
    loaded = suite.load(path)
    assert loaded.name == name
    assert set(loaded.peers) == set(PEERS)
    for task in loaded.tasks:
        suite.task_spec(task, path, None)


def test_the_suite_of_the_readme_is_sound(eval_folder: Path, tmp_path: Path) -> None:
    text = (eval_folder / "README.md").read_text(encoding="utf-8").rpartition("```yaml\n")[2].partition("```")[0]
    path = tmp_path / "readme.yaml"
    path.write_text(text, encoding="utf-8")
    assert suite.load(path).name == "mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"round": 3}, "unknown key 'round' \\(did you mean 'rounds'"),
        ({"cells": [{"batch_size": 1, "seq_len": 16, "threads": 1}]}, "unknown key 'threads' in cells"),
        ({"cells": []}, "cells"),
        ({"cells": None}, "'cells' is missing"),
        ({"ours": {"int8": [{"do": "magic"}]}}, "do"),
        ({"ours": {"int8": []}}, "'int8' has no steps"),
        ({"ours": {"int8": [{"do": "quantize", "with": {"metod": "dynamic"}}]}}, "unknown key 'metod'.*did you mean 'method'"),
        ({"ours": {"slim": [{"do": "prune"}]}}, "exactly one target"),
        ({"ours": {"x": [{"do": "export", "student": "layers=3"}]}}, "'student' goes with distill"),
        ({"peers": {"openvin": ["bf16"]}}, "unknown peer 'openvin' \\(did you mean 'openvino'"),
        ({"peers": {"openvino": ["int4"]}}, "no variant 'int4' \\(known: fp32"),
        ({"teacher": {"epoch": 3}}, "epoch"),
        ({"rounds": 4}, "rounds"),
        ({"threads": ["1"]}, "threads"),
        ({"schema": 2}, "schema"),
    ],
)
def test_faults_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load(tmp_path, **changes)


def test_a_quick_suite_is_small(tmp_path: Path) -> None:
    cells = [{"batch_size": 1, "seq_len": length} for length in (8, 16, 32)]
    quick = load(tmp_path, cells=cells, threads=[1, 2], teacher={"epochs": 3, "lr": 1e-4}).quick()
    assert (len(quick.cells), quick.threads, quick.rounds) == (2, [1], 5)
    assert quick.teacher == {"epochs": 1, "lr": 1e-4}


def test_local_files_take_the_place_of_the_hub(tmp_path: Path) -> None:
    folder = tmp_path / "sst2"
    folder.mkdir()
    for split in ("train", "validation"):
        (folder / f"{split}.parquet").touch()
    spec = suite.task_spec("sst2", tmp_path / "s.yaml", tmp_path)
    assert spec.hub is None
    assert spec.local_files() == {split: str(folder / f"{split}.parquet") for split in ("train", "validation")}
    assert spec.text == ["sentence"]


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no train.parquet"):
        suite.task_spec("sst2", tmp_path / "s.yaml", tmp_path)


def test_peers_answer_one_class_or_value_only(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="question-answering"):
        suite.task_spec("squad", tmp_path / "s.yaml", None)
