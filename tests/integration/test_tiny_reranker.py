"""A retriever's candidates, and rerankers on them, through the stages, on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import compress
from compress import api
from compress.core.errors import DataError, RecipeError, UsageError
from compress.inference.retriever import write_candidates
from compress.models.checkpoint import load_model
from tests import tiny
from tests.unit.training.retrieval_task import QUERIES, write_retrieval


@pytest.fixture(scope="module")
def beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set, and the candidates of an embedder."""
    folder = tmp_path_factory.mktemp("retrieval")
    write_retrieval(folder / "beir")
    embedder = tiny.write_embedder(folder / "embedder")
    assert write_candidates(embedder, str(folder / "beir"), folder / "beir" / "a.run") == (QUERIES, QUERIES * 2 * QUERIES)
    return folder / "beir"


def task_of(beir: Path, **fields: Any) -> dict[str, Any]:
    return {"kind": "text-ranking", "beir": str(beir), "run": str(beir / "a.run"), "shares": [0.5, 0.25, 0.25], "max_length": 32, **fields}


def test_a_reranker_goes_the_whole_way(beir: Path, tmp_path: Path) -> None:
    encoder, task = tiny.write_encoder(tmp_path / "encoder"), task_of(beir)
    trained = compress.finetune(encoder, task, tmp_path / "reranker", epochs=6, lr=2e-3, batch_size=32, precision="fp32")
    assert trained["metrics"]["validation"]["n"] == 5
    assert set(trained["metrics"]["validation"]) == {"n", "ndcg@10", "mrr@10", "recall@100", "map"}
    student = compress.distill(tmp_path / "reranker", "layers=1", task, tmp_path / "student", epochs=1, batch_size=32, precision="fp32")
    assert student["metrics"]["validation"]["n"] == 5
    assert student["training"]["steps"] == 13  # ten queries with forty candidates each: fifty lists of eight, four lists a step
    compress.export(tmp_path / "reranker", tmp_path / "graph", task)
    compress.quantize(tmp_path / "graph", task, tmp_path / "int8", method="dynamic", max_drop=90)
    document = compress.evaluate([tmp_path / name for name in ("reranker", "graph", "int8", "student")], task)
    scores = [entry["metrics"]["ndcg@10"] for entry in document["results"]]
    assert document["n"] == 5
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert document["results"][1]["vs_first"]["delta"] == pytest.approx(0, abs=1e-6)
    assert document["errors"]["n"] == 0
    timed = compress.bench([tmp_path / "graph"], task, rounds=5, memory=False)
    assert all(entry["latency_ms"]["p50"] > 0 for entry in timed["results"])


def test_pointwise_training_and_low_rank_updates(beir: Path, tmp_path: Path) -> None:
    encoder = tiny.write_encoder(tmp_path / "encoder")
    options: dict[str, Any] = {"epochs": 1, "lr": 2e-3, "batch_size": 16, "precision": "fp32", "max_examples": 4}
    pointwise = compress.finetune(encoder, task_of(beir), tmp_path / "a", ranking_loss="pointwise", **options)
    assert pointwise["training"]["steps"] == 2
    compress.finetune(encoder, task_of(beir), tmp_path / "b", mode="lora", **options)
    frozen = compress.finetune(encoder, task_of(beir), tmp_path / "c", mode="frozen", **options)
    before, after = (load_model(folder, labels=["value"], target="value").state_dict() for folder in (encoder, tmp_path / "c"))
    assert frozen["training"]["trained_share"] < 0.5
    assert {name for name in before if not torch.equal(before[name], after[name])} >= {"classifier.weight"}
    assert torch.equal(before["bert.encoder.layer.0.output.dense.weight"], after["bert.encoder.layer.0.output.dense.weight"])


def test_what_does_not_fit(beir: Path, tmp_path: Path) -> None:
    classifier = tiny.write_checkpoint(tmp_path / "classifier")
    with pytest.raises(RecipeError, match="needs the candidates of the queries"):
        compress.evaluate([classifier], {"kind": "text-ranking", "beir": str(beir)})
    with pytest.raises(DataError, match="needs the train split, and task beir has only: test"):
        compress.finetune(tiny.write_encoder(tmp_path / "encoder"), task_of(beir, shares=None), tmp_path / "out")


def test_students_learn_lists_from_a_retriever_without_labels(beir: Path, tmp_path: Path) -> None:
    """The same candidates from an embedder; every kind of student; the order of the teacher is learned."""
    teacher = tiny.write_checkpoint(tmp_path / "teacher", labels=["value"], target="value")
    document: dict[str, Any] = task_of(beir, run=None, retriever=str(beir.parent / "embedder"))
    found = [compress.evaluate([teacher], task)["results"][0]["metrics"] for task in (document, task_of(beir))]
    assert found[0] == found[1]
    plan = api.plan_distill(teacher, "layers=2", document)
    assert {row["method"]: row["weight"] for row in plan["matches"] if row["method"] == "margin_mse"} == {"margin_mse": 1.0}
    options: dict[str, Any] = {"epochs": 1, "batch_size": 32, "precision": "fp32", "max_examples": 8}
    for student, method in (("layers=2", ["margin_mse", "listwise"]), ("lstm=8", ["listwise"]), ("static=8", ["margin_mse"])):
        name = student.partition("=")[0]
        result = compress.distill(teacher, student, document, tmp_path / name, method=method, **options)
        assert result["training"]["steps"] == 2
        compress.export(tmp_path / name, tmp_path / f"{name}-graph", document)
        scores = compress.evaluate([tmp_path / name, tmp_path / f"{name}-graph"], document)["results"]
        assert scores[1]["metrics"] == pytest.approx(scores[0]["metrics"], abs=1e-6)
    with pytest.raises(UsageError, match="method theseus learns from labels"):
        compress.distill(teacher, "layers=2", document, tmp_path / "out", method="theseus")


@pytest.mark.parametrize("name", ["embedder", "reranker"])
def test_the_ready_recipes_run_on_other_data(name: str, beir: Path, tmp_path: Path) -> None:
    """With a tiny model and data; every stage is the recipe's own."""
    model = beir.parent / "embedder"
    small = {
        "model": model,
        "task.beir": beir,
        "task.shares": "[0.5,0.25,0.25]",
        "slim.target_speedup": "null",
        "slim.target_flops": 0.7,
        "student.epochs": 1,
        "int8.max_drop": 90,
        "speed.rounds": 5,
        "speed.memory": "false",
        "gates.max_drop": 100,
        "gates.min_speedup": 0.01,
        **({"task.retriever": model, "teacher.epochs": 1} if name == "reranker" else {}),
    }
    document = compress.run(name, tmp_path / "run", overrides=[f"{key}={value}" for key, value in small.items()])
    assert document["stages_run"] == len(document["stages"])
    assert (tmp_path / "run" / "model" / "model.onnx").is_file()
    assert document["delivered"]
