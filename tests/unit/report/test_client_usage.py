"""The lines for other clients in a model card; `tests/clients` runs them in these clients."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import compress
from compress.core import artifacts
from compress.report.card import model_card
from compress.report.client_usage import ClientModel, client_lines
from tests import tiny


def blocks(model: ClientModel) -> dict[str, str]:
    """Return the code of each client by the first words of its title."""
    lines = client_lines(model)
    return dict(zip(lines[::2], lines[1::2], strict=True))


def code(model: ClientModel, client: str) -> str:
    return next(block for title, block in blocks(model).items() if client in title)


@pytest.mark.parametrize("reranker", [False, True])
@pytest.mark.parametrize("graph", [None, "model.onnx", "onnx/model_quantized.onnx"])
def test_python_blocks_compile_and_leave_a_result(reranker: bool, graph: str | None) -> None:
    found = blocks(ClientModel(reranker, graph, size=12, prompt=("query", "query: ")))
    assert len(found) == (1 if graph is None else 2)
    for block in found.values():
        lines = block.removeprefix("```python\n").removesuffix("\n```\n")
        compile(lines, "card", "exec")
        assert re.search(r"^scores = |^vectors = ", lines, re.MULTILINE)
        assert (graph is None or graph == "model.onnx") or graph in lines


def test_clients_that_add_no_prompt_get_it_in_the_lines() -> None:
    model = ClientModel(False, "onnx/model.onnx", "transformers.js", size=12, prompt=("query", "query: "))
    assert '"query: " + text' in code(model, "fastembed")
    assert '"query: " + text' in code(model, "transformers.js")
    assert "query: " not in code(model, "sentence-transformers")
    served = ClientModel(False, "onnx/model.onnx", "text-embeddings-inference", prompt=("query", "query: "))
    assert "--model-id . --default-prompt-name query" in code(served, "text-embeddings-inference")


def test_the_precision_is_named_as_transformers_js_names_it() -> None:
    for graph, dtype in (("onnx/model.onnx", "fp32"), ("onnx/model_quantized.onnx", "q8"), ("onnx/model_fp16.onnx", "fp16")):
        assert f'dtype: "{dtype}"' in code(ClientModel(False, graph, "transformers.js"), "transformers.js")
    pairs = code(ClientModel(True, "onnx/model.onnx", "transformers.js"), "transformers.js")
    assert "return_token_type_ids: true" in pairs  # by default only tokenizers of BERT's class return them


def test_sentence_transformers_needs_the_vectors_of_tokens() -> None:
    titles = " ".join(blocks(ClientModel(False, "model.onnx", token_vectors=False)))
    assert "sentence-transformers" not in titles
    assert "fastembed" in titles


def test_a_family_that_transformers_does_not_know_opens_where_no_config_is_read() -> None:
    (title,) = blocks(ClientModel(False, "onnx/model.onnx", "transformers.js", known_family=False))
    assert "fastembed" in title


def test_the_card_of_a_recurrent_student(tmp_path: Path) -> None:
    task = tiny.write_texts(tmp_path / "data", 16, 8)
    compress.distill(
        tiny.write_embedder(tmp_path / "teacher"), "lstm=8,embedding=16,ffn=24", task, tmp_path / "student", epochs=1, batch_size=8
    )
    compress.export(tmp_path / "student", tmp_path / "graph")
    assert front(tmp_path / "graph")["library_name"] == "onnx"
    card = (tmp_path / "graph" / "README.md").read_text(encoding="utf-8")
    assert f"dim={tiny.HIDDEN}" in card
    assert "SentenceTransformer" not in card
    pooling = yaml.safe_load((tmp_path / "graph" / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    assert pooling["word_embedding_dimension"] == 24


def front(folder: Path) -> dict[str, Any]:
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_the_hub_reads_what_opens_an_embedder(tmp_path: Path) -> None:
    model = tiny.write_embedder(tmp_path / "model")
    compress.export(model, tmp_path / "graph")
    matter = front(tmp_path / "graph")
    assert (matter["library_name"], matter["pipeline_tag"]) == ("sentence-transformers", "sentence-similarity")
    card = (tmp_path / "graph" / "README.md").read_text(encoding="utf-8")
    assert 'SentenceTransformer(".", backend="onnx")' in card
    assert "encode them again" in card.split("## Limits")[1]
    compress.export(tiny.write_embedder(tmp_path / "first", pooling=("cls",)), tmp_path / "first-graph")
    assert front(tmp_path / "first-graph")["library_name"] == "onnx"


def test_the_hub_reads_what_opens_a_reranker(tmp_path: Path) -> None:
    compress.export(tiny.write_checkpoint(tmp_path / "model", target="value"), tmp_path / "graph")
    manifest = {**(artifacts.read_manifest(tmp_path / "graph") or {}), "task": {"kind": "text-ranking", "name": "beir", "text": ["q", "d"]}}
    card = model_card("demo", "graph", {"graph": manifest}, tmp_path / "graph")
    matter = yaml.safe_load(card.split("---\n")[1])
    assert (matter["library_name"], matter["pipeline_tag"]) == ("sentence-transformers", "text-ranking")
    assert 'CrossEncoder(".", backend="onnx")' in card
    assert "TextCrossEncoder" in card
    plain = {**manifest, "kind": "checkpoint", "plain": True}
    assert 'CrossEncoder(".", max_length=' in model_card("demo", "graph", {"graph": plain}, tmp_path / "graph")


def test_the_default_prompt_is_in_the_lines_of_onnxruntime(tmp_path: Path) -> None:
    model = tiny.write_embedder(tmp_path / "model")
    (model / "config_sentence_transformers.json").write_text('{"prompts": {"query": "we "}, "default_prompt_name": "query"}')
    compress.export(model, tmp_path / "graph")
    assert 'text = "we " + "The new phone' in (tmp_path / "graph" / "README.md").read_text(encoding="utf-8")


def test_the_card_says_whether_an_old_index_can_be_kept() -> None:
    change = {"metric": "ndcg@10", "delta": -0.006, "ci95": [-0.012, 0.001], "p_value": 0.2}
    index = {
        "of": "/home/me/teacher",
        "valid": True,
        "metrics": {"ndcg@10": 0.371},
        "ci95": {"ndcg@10": [0.339, 0.406]},
        "vs_first": change,
    }
    entry = {"metrics": {"ndcg@10": 0.37}, "ci95": {"ndcg@10": [0.34, 0.4]}}
    proof = {
        "kind": "measurement", "verb": "eval", "task": "beir", "split": "test", "n": 9, "main_metric": "ndcg@10",
        "results": [{"model": "/home/me/teacher", **entry}, {"model": "int8", **entry, "vs_first": change, "index": index}],
    }  # fmt: skip
    int8 = {"kind": "onnx", "verb": "quantize", "stage": "int8", "precision": "int8", "lineage": [], "input_spec": {"target": "vector"}}
    card = model_card("demo", "int8", {"int8": int8, "proof": proof})
    assert "stays valid for int8" in card
    assert "0.60 less than with queries of" in card
    assert "/home/me" not in card
    assert "encode them again" not in card
