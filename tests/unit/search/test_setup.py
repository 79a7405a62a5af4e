"""What a search finds out before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compress.data.presets import resolve
from compress.data.task import Task
from compress.search import setup
from compress.search.space import TaskFacts
from tests import tiny


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return tiny.write_task(tmp_path_factory.mktemp("task"), 60, 50, 0)


def test_a_part_of_validation_judges_where_there_is_no_test_split(task: dict[str, Any]) -> None:
    spec = setup.with_judge(resolve(task))
    divided, whole = Task(spec), Task(resolve(task))
    assert divided.available == ["train", "validation", "test"]
    assert len(divided.split("test")) == 20
    parts = [*divided.split("validation").texts, *divided.split("test").texts]
    assert sorted(parts) == sorted(whole.split("validation").texts)
    assert divided.fingerprint != whole.fingerprint
    assert Task(spec).split("test").texts == divided.split("test").texts


def test_a_test_split_is_left_alone(tmp_path: Path) -> None:
    spec = resolve(tiny.write_task(tmp_path, 60, 50, 30))
    assert setup.with_judge(spec) is spec


def test_few_validation_examples_are_not_divided(tmp_path: Path) -> None:
    spec = resolve(tiny.write_task(tmp_path, 60, 20, 0))
    assert setup.with_judge(spec) is spec


@pytest.mark.parametrize(
    ("target", "labels", "expected"), [("class", tiny.LABELS, True), ("class", ["a", "b"], False), ("value", None, False)]
)
def test_a_model_is_fine_tuned_if_its_head_fits_the_task(
    tmp_path: Path, task: dict[str, Any], target: str, labels: list[str] | None, expected: bool
) -> None:
    folder = tiny.write_checkpoint(tmp_path / "model", target=target, labels=labels)
    assert setup.is_finetuned(folder, Task(resolve(task))) is expected


@pytest.mark.parametrize("write", [tiny.write_embedder, tiny.write_encoder])
def test_an_embedder_of_texts_without_judgements_is_its_own_teacher(tmp_path: Path, write: Any) -> None:
    task = Task(resolve({**tiny.write_texts(tmp_path / "texts"), "pooling": "mean"}))
    assert setup.is_finetuned(write(tmp_path / "model"), task)


def test_an_encoder_is_not_fine_tuned(tmp_path: Path, task: dict[str, Any]) -> None:
    assert not setup.is_finetuned(tiny.write_encoder(tmp_path / "model"), Task(resolve(task)))


@pytest.mark.parametrize(("kind", "labels"), [("text-classification", ("0", "1")), ("regression", (0.0, 1.0))])
def test_an_embedder_is_not_fine_tuned_for_another_task(tmp_path: Path, kind: str, labels: tuple[Any, Any]) -> None:
    """A config without a head has two labels by default, which fit any task of two classes."""
    import pandas as pd

    document: dict[str, Any] = {"name": "two", "kind": kind, "text": ["text"], "label": "label"}
    for split in ("train", "validation"):
        rows = pd.DataFrame({"text": ["a dog", "a cat"] * 4, "label": list(labels) * 4})
        rows.to_parquet(tmp_path / f"{split}.parquet")
        document[split] = str(tmp_path / f"{split}.parquet")
    assert not setup.is_finetuned(tiny.write_embedder(tmp_path / "model"), Task(resolve(document)))


def test_facts_and_lengths(tmp_path: Path, task: dict[str, Any]) -> None:
    folder = tiny.write_encoder(tmp_path / "model")
    (tmp_path / "more.txt").write_text("a dog\na cat\n", encoding="utf-8")
    facts = setup.task_facts(Task(setup.with_judge(resolve(task))), folder, str(tmp_path / "more.txt"))
    assert (facts.train, facts.unlabeled, facts.validation, facts.judged, facts.judge) == (60, 2, 30, 20, "test")
    assert (facts.hidden, facts.layers) == (tiny.HIDDEN, tiny.LAYERS)
    assert 4 < facts.tokens <= 32
    assert setup.usual_length(facts, 128) in (16, 32)
    assert setup.usual_length(facts, 12) == 12


def test_a_tiny_model_is_faster_than_the_reference(tmp_path: Path, task: dict[str, Any]) -> None:
    folder = tiny.write_encoder(tmp_path / "model")
    assert 0 < setup.machine_scale(folder, Task(resolve(task)), 10.0) < 1


def test_the_reference_has_a_scale_of_one() -> None:
    facts = TaskFacts("class", False, "accuracy", 100, 0, 50, 50, "test", 32.0, 384, 6)
    assert setup.expected_scale(facts) == 1.0
    assert setup.expected_scale(replace(facts, hidden=768, layers=12)) == 8.0
