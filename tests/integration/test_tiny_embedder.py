"""Every verb on embedders and rerankers, through the stages, on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compress
from compress.core.errors import DataError, ModelError, UsageError
from compress.inference.predictor import open_predictor
from compress.models.checkpoint import load_model
from compress.models.embedder import vector_size
from tests import tiny
from tests.unit.data.retrieval_files import write_lines

pytestmark = pytest.mark.usefixtures("in_this_process")
TEXTS = ["the dog and the soup", "we"]


def vectors_of(folder: Path, texts: list[str]) -> np.ndarray:
    """Return the vectors of texts, (n, size)."""
    return np.stack([prediction.vector for prediction in open_predictor(folder)(texts)])  # pyright: ignore[reportAttributeAccessIssue]


def write_retrieval(folder: Path) -> Path:
    """Write a corpus of the tiny sentences; each query is half of a document, which answers it."""
    folder.mkdir()
    texts = [text for text, _ in tiny.sentences(40, seed=8)]
    write_lines(folder / "corpus.jsonl", [{"_id": f"d{number}", "text": text} for number, text in enumerate(texts)])
    halves = [" ".join(text.split()[::2]) for text in texts[:20]]
    write_lines(folder / "queries.jsonl", [{"_id": f"q{number}", "text": half} for number, half in enumerate(halves)])
    (folder / "qrels").mkdir()
    rows = [f"q{number}\td{number}\t1" for number in range(20)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_the_whole_way_without_labels(family: str, tmp_path: Path) -> None:
    """Prune, distill, export, quantize, compare and bench; the vectors stay near the dense ones."""
    task = tiny.write_texts(tmp_path / "data")
    made = {name: tmp_path / name for name in ("dense", "slim", "student", "graph", "int8")}
    tiny.write_embedder(made["dense"], family)
    slim = compress.prune(made["dense"], task, made["slim"], target_flops=0.6, calib_samples=32)
    assert 0 < slim["metrics"]["validation"]["cosine"] <= 1
    student = compress.distill(made["dense"], made["slim"], task, made["student"], epochs=2, batch_size=8)
    assert student["metrics"]["validation"]["cosine"] > 0.5
    graph = compress.export(made["student"], made["graph"], task)
    assert graph["verification"]["agreement"] == 1
    int8 = compress.quantize(made["graph"], task, made["int8"], method="dynamic")
    assert int8["metrics"]["validation"]["float"] == pytest.approx(1, abs=1e-6)
    assert int8["metrics"]["validation"]["cosine"] > 0.9
    document = compress.evaluate([made[name] for name in ("dense", "slim", "student", "graph", "int8")], task)
    scores = [entry["metrics"]["cosine"] for entry in document["results"]]
    assert scores[0] == pytest.approx(1, abs=1e-6)
    assert scores[1] == pytest.approx(slim["metrics"]["validation"]["cosine"], abs=1e-5)
    assert scores[2] == pytest.approx(scores[3], abs=1e-5)
    np.testing.assert_allclose(vectors_of(made["graph"], TEXTS), vectors_of(made["student"], TEXTS), atol=1e-5)
    manifest = json.loads((made["graph"] / "compress.json").read_text())
    assert manifest["input_spec"]["target"] == "vector"
    assert "sentence_embedding" in (made["graph"] / "README.md").read_text()
    if family == "bert":
        timed = compress.bench([made["dense"], made["graph"]], task, rounds=5, memory=False)
        assert {entry["runtime"] for entry in timed["results"]} == {"pytorch", "onnxruntime"}


def test_rankings_pairs_and_texts_are_evaluated(tmp_path: Path) -> None:
    embedder, other = tiny.write_embedder(tmp_path / "a"), tiny.write_embedder(tmp_path / "b", seed=1)
    beir = {"kind": "sentence-embedding", "beir": str(write_retrieval(tmp_path / "beir"))}
    document = compress.evaluate([embedder, other], beir)
    assert document["n"] == 20
    assert document["main_metric"] == "ndcg@10"
    assert document["results"][0]["metrics"]["ndcg@10"] > 0.25  # chance is 0.12; half of a text is near to all of it
    assert document["results"][0]["metrics"]["recall@100"] == 1
    assert document["results"][1]["vs_first"]["metric"] == "ndcg@10"
    copied, narrow = tiny.write_embedder(tmp_path / "copy"), tiny.write_embedder(tmp_path / "narrow", dense=5)
    first, same, other = compress.evaluate([embedder, copied, narrow], beir)["results"]
    assert "index" not in first
    assert same["index"]["valid"]
    assert same["index"]["metrics"] == first["metrics"]
    assert other["index"] == {"of": str(embedder), "valid": False}
    assert not document["results"][1]["index"]["valid"]  # a stranger's queries find little
    pairs = compress.evaluate([embedder], tiny.write_scored_pairs(tmp_path / "pairs"))
    assert set(pairs["results"][0]["metrics"]) == {"spearman", "pearson"}
    assert pairs["n"] == 16
    with pytest.raises(DataError, match="cannot be compared"):
        compress.evaluate([embedder, tiny.write_embedder(tmp_path / "c", dense=5)], tiny.write_texts(tmp_path / "texts"))


def test_a_gate_in_points_of_judgements(tmp_path: Path) -> None:
    embedder = tiny.write_embedder(tmp_path / "a")
    beir = {"kind": "sentence-embedding", "beir": str(write_retrieval(tmp_path / "beir")), "shares": [0, 0.5, 0.5]}
    found = compress.quantize(embedder, beir, tmp_path / "int8", method="dynamic", max_drop=50)
    assert found["metrics"]["validation"]["n"] == 10
    assert "ndcg@10" in found["metrics"]["validation"]


def test_students_of_other_sizes_keep_the_size_of_the_vectors(tmp_path: Path) -> None:
    teacher = tiny.write_embedder(tmp_path / "teacher")
    task = tiny.write_texts(tmp_path / "data", train=24, validation=8)
    narrow = compress.distill(teacher, "layers=2,hidden=16,heads=4,ffn=32", task, tmp_path / "narrow", epochs=1, batch_size=8)
    assert vector_size(load_model(tmp_path / "narrow")) == tiny.HIDDEN
    assert narrow["metrics"]["validation"]["before"] > 0.1  # its dimensions are where the teacher has them
    encoder = tiny.write_encoder(tmp_path / "encoder", "distilbert", seed=3)
    compress.distill(teacher, encoder, task, tmp_path / "other", epochs=1, batch_size=8)
    assert vectors_of(tmp_path / "other", TEXTS).shape == (2, tiny.HIDDEN)


def test_refusals(tmp_path: Path) -> None:
    embedder, task = tiny.write_embedder(tmp_path / "a"), tiny.write_texts(tmp_path / "texts", 16, 8)
    with pytest.raises(DataError, match="texts alone have nothing to fine-tune an embedder for"):
        compress.finetune(embedder, task, tmp_path / "out")
    with pytest.raises(UsageError, match="method hidden does not support"):
        compress.prune(embedder, task, tmp_path / "out", method="hidden", target_flops=0.5)
    with pytest.raises(UsageError, match="method nmse needs layers, and a BiLSTM has none"):
        compress.distill(embedder, "lstm=8", task, tmp_path / "out", method=["logits", "nmse:2"])
    with pytest.raises(UsageError, match="method theseus learns from labels"):
        compress.distill(embedder, "layers=2", task, tmp_path / "out", method="theseus")
    with pytest.raises(ModelError, match="does not name its pooling"):
        compress.evaluate([tiny.write_encoder(tmp_path / "plain")], task)
    named: dict[str, Any] = {**task, "pooling": "mean"}
    assert compress.evaluate([tmp_path / "plain"], named)["results"][0]["metrics"]["cosine"] == pytest.approx(1, abs=1e-6)
    compress.export(tmp_path / "plain", tmp_path / "graph", named)
    assert vectors_of(tmp_path / "graph", TEXTS).shape == (2, tiny.HIDDEN)


@pytest.mark.parametrize("method", ["fisher", "taylor", "magnitude", "layers", "vocab", "sparse"])
def test_every_method_of_pruning(method: Any, tmp_path: Path) -> None:
    embedder, task = tiny.write_embedder(tmp_path / "a", dense=12), tiny.write_texts(tmp_path / "texts", 32, 8)
    target: dict[str, Any] = {} if method in ("vocab", "sparse") else {"target_flops": 0.7}
    found = compress.prune(embedder, task, tmp_path / "out", method=method, **target)
    assert 0 < found["metrics"]["validation"]["cosine"] <= 1
    assert vectors_of(tmp_path / "out", TEXTS).shape == (2, 12)


def test_factorize_share_and_the_similarity_loss(tmp_path: Path) -> None:
    embedder, task = tiny.write_embedder(tmp_path / "a"), tiny.write_texts(tmp_path / "texts", 32, 8)
    low_rank = compress.factorize(embedder, task, tmp_path / "low", target_flops=0.7, embedding_rank=16)
    shared = compress.share(embedder, task, tmp_path / "shared", layers=2)
    for found, folder in ((low_rank, tmp_path / "low"), (shared, tmp_path / "shared")):
        scores = found["metrics"]["validation"]
        assert scores["before"] == pytest.approx(1, abs=1e-6)
        assert vectors_of(folder, TEXTS).shape == (2, tiny.HIDDEN)
        assert compress.evaluate([embedder, folder], task)["results"][1]["metrics"]["cosine"] == pytest.approx(scores["cosine"], abs=1e-5)
    method = ["logits", "similarity"]
    student = compress.distill(embedder, "layers=2", task, tmp_path / "student", method=method, epochs=1, batch_size=8)
    assert student["metrics"]["validation"]["cosine"] > 0
    with pytest.raises(UsageError, match="similarity compares the vectors"):
        compress.distill(tiny.write_checkpoint(tmp_path / "c"), "layers=2", tiny.write_task(tmp_path / "t"), tmp_path / "x", method=method)


def test_a_recipe_delivers_the_whole_folder(tmp_path: Path) -> None:
    tiny.write_embedder(tmp_path / "dense", dense=12)
    write_retrieval(tmp_path / "beir")
    recipe = {
        "schema": 1,
        "name": "small",
        "model": "./dense",
        "task": {"kind": "sentence-embedding", "beir": "./beir"},
        "stages": {
            "slim": {"do": "prune", "from": "model", "target_flops": 0.7, "method": "magnitude"},
            "proof": {"do": "eval", "from": ["model", "slim"]},
        },
    }
    (tmp_path / "small.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    compress.run(tmp_path / "small.yaml", tmp_path / "run")
    delivered = tmp_path / "run" / "model"
    assert vectors_of(delivered, TEXTS).shape == (2, 12)
    assert json.loads((delivered / "compress.json").read_text())["task"]["beir"] == "beir"


STUDENTS = ["lstm=8,embedding=12,ffn=10", "static=8,bigram=4,buckets=97,ffn=10", "layers=2,vocab=70", "lstm=8,vocab=70"]


@pytest.mark.parametrize("student", STUDENTS)
def test_students_without_layers_and_with_fewer_tokens_keep_the_index(student: str, tmp_path: Path) -> None:
    """They learn the teacher's vectors, and are the same reloaded, in ONNX, quantized and as students of themselves."""
    teacher, task = tiny.write_embedder(tmp_path / "teacher"), tiny.write_texts(tmp_path / "data", train=32, validation=8)
    made = {name: tmp_path / name for name in ("student", "graph", "int8", "again")}
    options: dict[str, Any] = {"batch_size": 8, "lr": 1e-2, "precision": "fp32", "method": "logits"}
    trained = compress.distill(teacher, student, task, made["student"], epochs=12, **options)["metrics"]["validation"]
    assert trained["cosine"] > trained["before"] + 0.05
    vectors = vectors_of(made["student"], TEXTS)
    assert vectors.shape == (2, tiny.HIDDEN)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    compress.export(made["student"], made["graph"], task)
    if student.startswith("static"):
        with pytest.raises(UsageError, match="no vectors of its tokens"):
            compress.export(made["student"], tmp_path / "tokens", task, token_embeddings=True)
    compress.quantize(made["graph"], task, made["int8"], method="dynamic", max_drop=50)
    np.testing.assert_allclose(vectors_of(made["graph"], TEXTS), vectors, atol=1e-5)
    scores = compress.evaluate([teacher, *(made[name] for name in ("student", "graph", "int8"))], task)["results"]
    assert scores[1]["metrics"]["cosine"] == pytest.approx(trained["cosine"], abs=1e-5)
    assert scores[3]["metrics"]["cosine"] > 0.8 * trained["cosine"]
    compress.distill(teacher, made["student"], task, made["again"], epochs=1, **options)
    assert vectors_of(made["again"], TEXTS).shape == (2, tiny.HIDDEN)


def test_scored_pairs_and_a_corpus_teach_students_without_layers(tmp_path: Path) -> None:
    teacher = tiny.write_embedder(tmp_path / "teacher", pooling=("cls", "mean"), dense=12, normalize=False)
    pairs = tiny.write_scored_pairs(tmp_path / "pairs")
    beir = {"kind": "sentence-embedding", "beir": str(write_retrieval(tmp_path / "beir")), "shares": [0, 0.5, 0.5]}
    for name, student, task in (("a", "static=8,ffn=10,buckets=97", pairs), ("b", "lstm=8", beir)):
        compress.distill(teacher, student, task, tmp_path / name, epochs=1, batch_size=16, precision="fp32")
        assert vector_size(load_model(tmp_path / name)) == 12
