"""Artifacts for other clients: where their graphs lie, what they hold, and that compress opens them as before."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import compress
from compress.core.errors import ModelError, UsageError
from compress.models.layout import graph_file, is_graph
from compress.models.reference import digest_model
from tests import tiny

TEXTS = ["the dog and the soup", "we"]


def vectors_of(folder: Path) -> np.ndarray:
    return np.stack([prediction.vector for prediction in compress.load_onnx(folder)(TEXTS)])  # pyright: ignore[reportAttributeAccessIssue]


def outputs_of(path: Path) -> list[str]:
    return [entry.name for entry in onnx.load(str(path)).graph.output]


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    compress.export(tiny.write_embedder(tmp_path / "model", dense=12), tmp_path / "graph")
    return tmp_path / "graph"


def test_a_checkpoint_is_laid_out(artifact: Path, tmp_path: Path) -> None:
    found = compress.export(tmp_path / "model", tmp_path / "st", layout="sentence-transformers")
    assert found["graph"] == "onnx/model.onnx"
    assert not (tmp_path / "st" / "model.onnx").exists()
    assert outputs_of(tmp_path / "st" / "onnx" / "model.onnx") == ["sentence_embedding", "last_hidden_state"]
    assert (tmp_path / "st" / "2_Dense" / "model.safetensors").is_file()  # sentence-transformers computes it itself
    np.testing.assert_array_equal(vectors_of(tmp_path / "st"), vectors_of(artifact))
    card = (tmp_path / "st" / "README.md").read_text(encoding="utf-8")
    assert 'onnxruntime.InferenceSession("onnx/model.onnx"' in card


def test_an_int8_artifact_is_laid_out_by_its_precision(artifact: Path, tmp_path: Path) -> None:
    task = tiny.write_texts(tmp_path / "data", 16, 8)
    compress.quantize(artifact, task, tmp_path / "int8", method="dynamic")
    web = compress.export(tmp_path / "int8", tmp_path / "web", layout="transformers.js")
    assert (web["graph"], web["precision"]) == ("onnx/model_quantized.onnx", "int8")
    assert web["verification"]["max_abs"] == 0
    tei = compress.export(tmp_path / "int8", tmp_path / "tei", layout="text-embeddings-inference")
    assert tei["graph"] == "onnx/model.onnx"
    np.testing.assert_array_equal(vectors_of(tmp_path / "web"), vectors_of(tmp_path / "int8"))
    timed = compress.bench([artifact, tmp_path / "web"], rounds=5, memory=False, seq_len=[8])
    assert [entry["precision"] for entry in timed["results"]] == ["fp32", "int8"]
    assert 0 < timed["results"][1]["size_mb"] < timed["results"][0]["size_mb"]
    assert [step["verb"] for step in web["lineage"] if "verb" in step] == ["export", "quantize", "export"]


def test_the_digest_covers_the_graph(artifact: Path, tmp_path: Path) -> None:
    found = compress.export(artifact, tmp_path / "tei", layout="text-embeddings-inference")
    assert digest_model(tmp_path / "tei") == found["digest"]
    graph = graph_file(tmp_path / "tei")
    graph.write_bytes(graph.read_bytes() + b"\x00")
    assert digest_model(tmp_path / "tei") != found["digest"]


def test_first_tokens_only(tmp_path: Path) -> None:
    first = tiny.write_embedder(tmp_path / "first", pooling=("cls",))
    compress.export(first, tmp_path / "graph")
    assert outputs_of(tmp_path / "graph" / "model.onnx") == ["sentence_embedding"]
    with pytest.raises(ModelError, match="computes the first token only"):
        compress.export(tmp_path / "graph", tmp_path / "out", layout="sentence-transformers")
    compress.export(first, tmp_path / "both", token_embeddings=True)
    assert outputs_of(tmp_path / "both" / "model.onnx") == ["sentence_embedding", "last_hidden_state"]
    np.testing.assert_allclose(vectors_of(tmp_path / "both"), vectors_of(tmp_path / "graph"), atol=1e-6)
    compress.export(tmp_path / "both", tmp_path / "laid", layout="sentence-transformers")


def test_refusals(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="ONNX artifact"):
        compress.export(artifact, tmp_path / "out")
    with pytest.raises(UsageError, match="for ONNX Runtime"):
        compress.export(tmp_path / "model", tmp_path / "out", layout="transformers.js", runtime="openvino")
    with pytest.raises(UsageError, match="for embedders"):
        compress.export(tiny.write_checkpoint(tmp_path / "classifier"), tmp_path / "out", token_embeddings=True)
    assert not (tmp_path / "out").exists()


def test_a_graph_that_no_manifest_names_is_none(tmp_path: Path) -> None:
    folder = tiny.write_checkpoint(tmp_path / "model")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"")
    assert not is_graph(folder)
    (folder / "compress.json").write_text(json.dumps({"graph": "../elsewhere.onnx"}), encoding="utf-8")
    assert not is_graph(folder)


def test_the_longest_input_is_written_for_other_clients(artifact: Path, tmp_path: Path) -> None:
    settings = json.loads((artifact / "tokenizer_config.json").read_text())
    assert settings["model_max_length"] == 64
    compress.export(tiny.write_checkpoint(tmp_path / "classifier"), tmp_path / "other")
    assert json.loads((tmp_path / "other" / "tokenizer_config.json").read_text())["model_max_length"] == tiny.POSITIONS
