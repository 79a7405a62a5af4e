"""One split, scored with any number of models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.core.errors import DataError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.inference import evaluator as module
from compress.inference.evaluator import Evaluator
from compress.inference.forward import open_forward
from compress.models.config import read_config
from compress.models.inputs import encode_for
from compress.models.label_mapping import map_labels
from tests import tiny
from tests.unit.data.retrieval_files import write_beir

Maker = Callable[..., Path]


def evaluator_of(folder: Path, document: dict[str, Any], limit: int | None = None) -> Evaluator:
    """Return the evaluator of a checkpoint on validation."""
    task = Task(resolve(document))
    return Evaluator(task, "validation", folder, map_labels(read_config(folder), task, "model"), limit)


def test_a_score_is_the_share_of_right_predictions(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    evaluator, forward = evaluator_of(checkpoint(), tiny_task), open_forward(checkpoint())
    data, labels = evaluator.data, evaluator.examples.labels
    expected = [int(forward(data.batch([number]))[0].argmax()) for number in range(len(evaluator))]
    np.testing.assert_array_equal(evaluator.predict(forward, batch_size=7), expected)
    assert evaluator.score(forward)["accuracy"] == pytest.approx(np.mean(expected == labels))


def test_values_are_compared_with_the_labels(checkpoint: Maker, tmp_path: Path) -> None:
    """The label is the number of words, each of which is one token between two special ones."""
    task = Task(resolve(tiny.write_kind(tmp_path, "value")))
    evaluator = Evaluator(task, "validation", checkpoint(), np.arange(1))
    metrics = evaluator.score(lambda batch: batch["attention_mask"].sum(axis=1, keepdims=True).astype(np.float32) - 2)
    assert metrics == {name: pytest.approx(1.0) for name in task.spec.metrics}


@pytest.mark.parametrize("target", ["labels", "tags", "span"])
def test_each_kind_has_its_metrics(target: str, checkpoint: Maker, tmp_path: Path) -> None:
    task = Task(resolve(tiny.write_kind(tmp_path, target)))
    evaluator = Evaluator(task, "validation", checkpoint(), np.arange(len(task.label_names)))

    def random(batch: dict[str, np.ndarray]) -> np.ndarray:
        shape = batch["input_ids"].shape if target != "labels" else batch["input_ids"].shape[:1]
        return np.random.default_rng(0).normal(size=(*shape, len(task.label_names))).astype(np.float32)

    metrics = evaluator.score(random)
    assert list(metrics) == list(task.spec.metrics)
    assert all(0 <= value < 1 for value in metrics.values())


def test_a_split_is_encoded_once_per_tokenizer(
    checkpoint: Maker, tiny_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    def counted(folder: Path, *args: Any) -> Any:
        folders.append(folder)
        return encode_for(folder, *args)

    monkeypatch.setattr(module, "encode_for", counted)
    evaluator, forward = evaluator_of(checkpoint(), tiny_task), open_forward(checkpoint())
    other = tiny.write_checkpoint(tmp_path / "other")
    first = evaluator.score(forward)
    assert evaluator.score(forward) == first
    assert evaluator.score(forward, evaluator.encoded(other)) == first  # the same words
    evaluator.score(forward, evaluator.encoded(other))
    assert folders == [checkpoint(), other]


def test_a_limit_takes_the_first_examples(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    whole, short, long = (evaluator_of(checkpoint(), tiny_task, limit) for limit in (None, 5, 1000))
    assert (len(whole), len(short), len(long)) == (24, 5, 24)
    assert short.examples.texts == whole.examples.texts[:5]
    np.testing.assert_array_equal(short.predict(open_forward(checkpoint())), whole.predict(open_forward(checkpoint()))[:5])


def test_classes_are_those_of_the_task(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    evaluator, forward = evaluator_of(checkpoint(), tiny_task), open_forward(checkpoint())
    turned = Evaluator(evaluator.task, "validation", checkpoint(), evaluator.classes[::-1].copy())
    np.testing.assert_array_equal(turned.predict(lambda batch: forward(batch)[:, ::-1]), evaluator.predict(forward))


def test_a_split_that_the_task_lacks(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    document = {key: value for key, value in tiny_task.items() if key != "test"}
    with pytest.raises(DataError, match="has no test split"):
        Evaluator(Task(resolve(document)), "test", checkpoint(), np.arange(2))


def test_predictions_of_a_class_that_the_file_lacks_count_as_wrong(checkpoint: Maker, tmp_path: Path) -> None:
    """Entities of a kind that only the model knows are false positives, and labels of a text, too."""
    (tmp_path / "tags.jsonl").write_text('{"tokens": ["a", "b"], "tags": ["B-PER", "O"]}\n', encoding="utf-8")
    document = {"kind": "token-classification", "text": ["tokens"], "label": "tags", "metrics": ["entity_f1"]}
    task = Task(resolve({**document, "test": str(tmp_path / "tags.jsonl")}))
    config = {"architectures": ["BertForTokenClassification"], "id2label": {"0": "O", "1": "B-MISC", "2": "B-PER"}}
    evaluator = Evaluator(task, "test", checkpoint(), map_labels(config, task, "model"))

    def always(tags: list[int]) -> Any:
        rows = np.eye(3, dtype=np.float32)[[0, *tags, 0]][None]
        return lambda batch: rows

    assert evaluator.score(always([2, 0])) == {"entity_f1": 1.0}
    assert evaluator.score(always([2, 1])) == {"entity_f1": pytest.approx(2 / 3)}


def test_a_limit_takes_a_part_of_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, documents = tiny.write_embedder(tmp_path / "model"), str(write_beir(tmp_path / "beir", dev=[("q1", "d2", 1)]))
    monkeypatch.setattr(module, "DOCUMENTS", 1)
    whole, part = (evaluator_of(folder, {"kind": "sentence-embedding", "beir": documents}, limit) for limit in (None, 2))
    assert [len(evaluator.data) for evaluator in (whole, part)] == [4, 3]  # a query and its documents
    assert part.score(open_forward(folder))["recall@100"] == 1.0
