"""Tasks as presets, files and mappings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core.errors import RecipeError
from compress.data.presets import presets, resolve
from compress.data.spec import TaskSpec

LOCAL = {"text": ["sentence"], "train": "a.csv"}


def refused(document: Any) -> str:
    """Resolve a task that must be refused; returns the message."""
    with pytest.raises(RecipeError) as caught:
        resolve(document)
    assert caught.value.exit_code == 3
    return f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("name", presets())
def test_presets_are_sound(name: str) -> None:
    spec = resolve(name)
    assert spec.name == name
    if spec.labels is not None:  # else they are recorded in the dataset's files
        assert len(set(spec.labels)) == len(spec.labels) >= 2
    assert spec.main_metric == spec.metrics[0]
    assert spec.description
    if spec.hub:
        assert all(pattern.endswith(".parquet") for pattern in (spec.hub.train, spec.hub.validation, spec.hub.test) if pattern)
        assert spec.hub.validation or spec.hub.test


@pytest.mark.parametrize(
    ("name", "labels"),
    [("sst2", ["negative", "positive"]), ("mnli", ["entailment", "neutral", "contradiction"]), ("qnli", ["entailment", "not_entailment"])],
)
def test_labels_of_glue_are_in_the_order_of_their_published_numbers(name: str, labels: list[str]) -> None:
    assert presets()[name].labels == labels


def test_metrics_of_glue() -> None:
    found = {name: spec.metrics for name, spec in presets().items() if spec.hub and spec.hub.repo == "nyu-mll/glue"}
    assert found["cola"][0] == "matthews"
    assert found["mrpc"] == found["qqp"] == ["accuracy", "f1"]
    assert found["sst2"] == found["mnli"] == ["accuracy"]


def test_an_unknown_preset_suggests_the_nearest() -> None:
    assert "unknown task 'sst' (did you mean 'sst2'?)" in refused("sst")
    assert "compress tasks list" in refused("zzz")


def test_a_task_file_takes_its_name_and_starts_paths_at_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("text: [sentence]\ntrain: data/a.csv\ntest: /else/b.csv\n", encoding="utf-8")
    spec = resolve("mine.yaml", tmp_path)
    assert spec.name == "mine"
    assert spec.local_files() == {"train": str(tmp_path / "data" / "a.csv"), "test": "/else/b.csv"}
    monkeypatch.chdir(tmp_path)
    assert resolve("mine.yaml") == spec


def test_a_task_file_with_a_space_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "my task.yaml").write_text("text: [sentence]\ntrain: a.csv\n", encoding="utf-8")
    assert resolve("my task.yaml", tmp_path).local_files() == {"train": str(tmp_path / "a.csv")}


def test_a_mapping_starts_paths_at_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(LOCAL, tmp_path).train == str(tmp_path / "a.csv")
    monkeypatch.chdir(tmp_path)
    assert resolve(LOCAL).train == str(tmp_path / "a.csv")


def test_a_spec_is_itself() -> None:
    spec = presets()["sst2"]
    assert resolve(spec) is spec


def test_a_missing_task_file() -> None:
    assert "cannot read" in refused("nowhere.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": None}, "text"),
        ({"text": []}, "text"),
        ({"text": ["a", "b", "c"]}, "text"),
        ({"text": "sentence"}, "text"),
        ({"labels": ["one"]}, "labels"),
        ({"labels": [0, 1]}, "labels"),
        ({"max_length": 2}, "max_length"),
        ({"max_length": 100_000}, "max_length"),
        ({"max_length": "128"}, "max_length"),
        ({"metrics": ["acuracy"]}, "metrics.0"),
        ({"metrics": ["spearman"]}, "'spearman' does not measure text-classification"),
        ({"kind": "regression", "metrics": ["accuracy"]}, "known: spearman, pearson"),
        ({"kind": "regression", "multi_label": True}, "multi_label goes with text-classification"),
        ({"kind": "question-answering"}, "question-answering takes 2 text column(s), not 1"),
        ({"kind": "token-classification", "text": ["a", "b"]}, "takes 1 text column(s), not 2"),
        ({"segment": True}, "segment goes with token-classification"),
        ({"kind": "translation"}, "kind"),
        ({"name": "../x"}, "name"),
        ({"colum": "x"}, "unknown key 'colum'"),
        ({"lable": "x"}, "did you mean 'label'"),
        ({"train": None}, "exactly one of"),
        ({"builtin": "bbc-news"}, "exactly one of"),
        ({"hub": {"repo": "a/b", "train": "*.parquet"}}, "exactly one of"),
        ({"train": None, "hub": {"repo": "no-owner", "train": "*"}}, "hub.repo"),
        ({"train": None, "hub": {"repo": "a/b"}}, "hub.train"),
        ({"train": None, "builtin": "20news"}, "builtin"),
        ({"train": ""}, "exactly one of"),
        ({"train": 5}, "train"),
    ],
    ids=str,
)  # fmt: skip
def test_malformed_tasks(changes: dict[str, Any], message: str) -> None:
    document = {key: value for key, value in {**LOCAL, **changes}.items() if value is not None}
    assert message in refused(document)


def test_labels_that_stand_twice_are_refused() -> None:
    refused({**LOCAL, "labels": ["yes", "no", "yes"]})


def test_local_files_replace_every_other_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for spec in (presets()["bbc-news"], presets()["sst2"], TaskSpec(text=["a"], test="b.csv")):
        replaced = spec.with_files({"train": "x.csv"})
        assert replaced.local_files() == {"train": str(tmp_path / "x.csv")}
        assert (replaced.hub, replaced.builtin) == (None, None)
        assert (replaced.text, replaced.labels, replaced.name) == (spec.text, spec.labels, spec.name)


@pytest.mark.parametrize(
    "fields", [{"kind": ["x"]}, {"kind": {"a": 1}}, {"kind": None}, {"segment": True, "text": 5}, {"kind": 3, "text": {}}]
)
def test_values_of_other_types_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        resolve({"text": ["a"], "train": "x.csv", **fields})


RANKING = {"kind": "text-ranking", "beir": "folder", "run": "a.run"}


def test_a_reranker_on_judgements_needs_candidates(tmp_path: Path) -> None:
    spec = resolve({**RANKING, "shares": [0.6, 0.2, 0.2]}, tmp_path)
    assert (spec.run, spec.beir) == (str(tmp_path / "a.run"), "folder")  # no folder there: a repository
    assert spec.metrics == ["ndcg@10", "mrr@10", "recall@100", "map"]
    assert (len(spec.text), spec.max_length, spec.target) == (2, 512, "value")
    assert "needs the candidates of the queries" in refused({**RANKING, "run": None})
    assert "from a run or from a retriever" in refused({**RANKING, "retriever": "builtin:minilm-l6"})
    assert "no other task takes them" in refused({"kind": "sentence-embedding", "beir": "folder", "retriever": "a/b"})
    assert "candidates goes with text-ranking" in refused({"text": ["a"], "train": "x.csv", "candidates": 10})
    assert "candidates" in refused({**RANKING, "candidates": 101})
    assert resolve({**RANKING, "run": None, "retriever": "builtin:minilm-l6"}).metrics == spec.metrics
    assert "no other task takes them" in refused({**RANKING, "kind": "sentence-embedding"})
    assert "beir goes with sentence-embedding and text-ranking" in refused({**RANKING, "kind": "regression", "text": ["a"]})
    for changes in ({"text": ["title", "text"]}, {"label": "grade"}, {"hold_back": 0.5}):
        assert "leave text, label and hold_back out" in refused({**RANKING, **changes})
    assert TaskSpec.model_validate(spec.model_dump()) == spec
    assert "'spearman' does not measure text-ranking (known: ndcg@10" in refused({**RANKING, "metrics": ["spearman"]})


@pytest.mark.parametrize(
    ("beir", "name"),
    [("data/cranfield", "cranfield"), ("/data/dbpedia 5k/", "dbpedia-5k"), ("BeIR/scifact@main", "scifact"), ("..", "custom")],
)
def test_judged_data_names_its_task(beir: str, name: str) -> None:
    assert TaskSpec.model_validate({"kind": "sentence-embedding", "beir": beir}).name == name
    assert TaskSpec.model_validate({"kind": "sentence-embedding", "beir": beir, "name": "own"}).name == "own"
