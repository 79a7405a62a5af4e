"""Every hub preset, offline, against a cache laid out on disk as the hub's client lays it out, with files as the hub has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compress.data.dataset_objects import SPLITS
from compress.data.presets import presets, resolve
from compress.data.spec import TaskSpec
from compress.data.task import Task

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = [name for name, spec in presets().items() if spec.hub]
GLUE = {"cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "mnli-mm", "qnli", "rte", "wnli"}


def rows_of(spec: TaskSpec) -> tuple[dict[str, list[Any]], list[str] | None]:
    """Return columns as the data set has them (numbers for classes), and the class names that its files record."""
    sentences = ["one two three", "four", "five six", "seven eight nine ten"] * 3
    numbers = list(range(len(sentences)))
    if spec.segment:
        return {"tokens": [["中国", "人"], ["好"], ["图书馆"], ["我", "爱"]] * 3}, None
    if spec.target == "tags":
        names = ["O", "B-PER", "I-PER"] if spec.label == "ner_tags" else ["NOUN", "VERB", "DET"]
        tokens = [sentence.split() for sentence in sentences]
        return {spec.text[0]: tokens, spec.label: [[i % 3 for i, _ in enumerate(words)] for words in tokens]}, names
    if spec.target == "span":
        answers = [{"text": [sentence.split()[0]], "answer_start": [0]} for sentence in sentences]
        if spec.no_answer:
            answers[1] = {"text": [], "answer_start": []}
        return {"id": [str(n) for n in numbers], "question": ["what ?"] * 12, "context": sentences, "answers": answers}, None
    if spec.target == "mentions":
        pair = {
            "Text": "Ann met Bob; she left",
            "Pronoun": "she",
            "Pronoun-offset": 13,
            "A": "Ann",
            "A-offset": 0,
            "B": "Bob",
            "B-offset": 8,
        }
        return {**{name: [value] * 12 for name, value in pair.items()}, "A-coref": [True, False] * 6, "B-coref": [False] * 12}, None
    texts = dict.fromkeys(spec.text, sentences)
    if spec.target == "value":
        return texts | {spec.label: [n / 2 for n in numbers]}, None
    names = spec.labels or ["first", "second", "third"]
    return texts | {spec.label: [n % len(names) for n in numbers]}, names


def write_file(path: Path, spec: TaskSpec) -> None:
    """Write a Parquet file with the metadata that the hub's `datasets` library writes."""
    columns, names = rows_of(spec)
    table = pa.table(columns)
    if names:
        feature: Any = {"names": names, "_type": "ClassLabel"}
        feature = {"feature": feature, "_type": "Sequence"} if spec.target == "tags" else feature
        metadata = {b"huggingface": json.dumps({"info": {"features": {spec.label: feature}}}).encode()}
        table = table.replace_schema_metadata(metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


@pytest.fixture(params=HUB)
def cached(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskSpec:
    """A hub preset whose files are in the cache, under its own revision."""
    spec = resolve(request.param)
    assert spec.hub is not None
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / f"datasets--{spec.hub.repo.replace('/', '--')}"
    reference = folder / "refs" / (spec.hub.revision or "main")
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT, encoding="utf-8")
    for split in SPLITS:
        if pattern := getattr(spec.hub, split):
            write_file(folder / "snapshots" / COMMIT / pattern.replace("*", "00000-of-00001"), spec)
    return spec


def test_every_split_loads_and_means_what_it_should(cached: TaskSpec) -> None:
    task = Task(cached)
    assert "train" in task.available
    assert "validation" in task.available
    for split in task.available:
        examples = task.split(split)
        held_out = cached.hub is not None and not cached.hub.validation
        assert len(examples) == (12 if not held_out or split == "test" else {"train": 10, "validation": 2}[split])
        assert all(len(text) == len(cached.text) for text in examples.texts) or cached.target == "tags"
    labels = task.split("train").labels
    if cached.target == "class":
        assert sorted(np.unique(labels)) == list(range(len(task.label_names)))
    if cached.target == "tags":
        assert [len(text) for text in task.split("train").texts] == [len(tags) for tags in labels]
    if cached.name in ("conll2003", "ud-english-pos", "rumour-stance", "banking77"):
        assert task.label_names == rows_of(cached)[1]  # from the file's own record
    if cached.name == "chinese-word-segmentation":
        first = next(i for i, text in enumerate(task.split("train").texts) if "".join(text) == "中国人")
        assert [task.label_names[tag] for tag in labels[first]] == ["B", "E", "S"]


def test_the_whole_of_glue_is_there() -> None:
    assert {name for name, spec in presets().items() if spec.hub and spec.hub.repo == "nyu-mll/glue"} == GLUE
    assert presets()["stsb"].metrics == ["spearman", "pearson"]
    assert presets()["mnli-mm"].labels == presets()["mnli"].labels
