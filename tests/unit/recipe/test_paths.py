"""Relative paths in a recipe file: they start at the folder of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.recipe.paths import anchored

FOLDER = Path("/recipes")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("./base", "/recipes/base"),
        ("../base", "/base"),
        ("/models/base", "/models/base"),
        ("owner/name", "owner/name"),
        ("builtin:minilm-l6", "builtin:minilm-l6"),
        (["./a", "teacher"], ["/recipes/a", "teacher"]),
        (None, None),
    ],
)
def test_models_that_start_with_a_dot(value: Any, expected: Any) -> None:
    assert anchored({"model": value}, FOLDER) == {"model": expected}
    stages = {"x": {"from": value, "teacher": value, "epochs": 3}}
    assert anchored({"stages": stages}, FOLDER) == {"stages": {"x": {"from": expected, "teacher": expected, "epochs": 3}}}


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("task.yaml", "/recipes/task.yaml"),
        ("sst2", "sst2"),
        ({"train": "data/a.csv", "text": ["a"]}, {"train": "/recipes/data/a.csv", "text": ["a"]}),
        ({"train": "/a.csv"}, {"train": "/a.csv"}),
        (["a"], ["a"]),
    ],
)
def test_tasks(task: Any, expected: Any) -> None:
    assert anchored({"task": task}, FOLDER)["task"] == expected


def test_data_files_of_stages() -> None:
    stages = {"student": {"do": "distill", "unlabeled": "texts.txt"}, "odd": 3}
    expected = {"student": {"do": "distill", "unlabeled": "/recipes/texts.txt"}, "odd": 3}
    assert anchored({"stages": stages}, FOLDER)["stages"] == expected


def test_the_document_is_not_edited() -> None:
    document: dict[str, Any] = {"model": "./a", "stages": {"x": {"from": "./b"}}}
    anchored(document, FOLDER)
    assert document == {"model": "./a", "stages": {"x": {"from": "./b"}}}


def test_the_files_of_a_retrieval_task_start_at_the_folder() -> None:
    task = {"kind": "text-ranking", "beir": "./data", "run": "data/a.run"}
    assert anchored({"task": task}, FOLDER)["task"] == {**task, "beir": str(FOLDER / "data"), "run": str(FOLDER / "data" / "a.run")}
