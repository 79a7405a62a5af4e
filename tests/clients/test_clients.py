"""Other clients open what compress writes: the lines of the model cards run in them, and give the same vectors and scores.

`make clients` runs it. Each client is installed once into an environment below `$COMPRESS_CACHE/peers` (some gigabytes); a client that
cannot be installed is skipped, with the reason. text-embeddings-inference comes as a container: what its source reads is checked instead.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compress
from compress.core import artifacts
from compress.core.errors import ResourceError
from compress.inference.retriever import write_candidates
from compress.models.reference import locate
from compress.report.card import model_card
from tests import tiny
from tests.unit.training.retrieval_task import write_retrieval

sys.path.insert(0, str(Path(__file__).parents[2] / "eval"))
import clients
from harness import environment

pytestmark = pytest.mark.timeout(3600)
TINY_INT8 = (
    0.999  # cosine: sessions with other fusions round a few activations of 32 dimensions otherwise; the real embedder shows none of it
)
KEPT = environment.peers_folder()  # not the cache of a test run


@pytest.fixture(autouse=True, scope="module")
def _kept_environments() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "peers_folder", lambda: KEPT)
        yield


@pytest.fixture(params=clients.CLIENTS, scope="module")
def client(request: pytest.FixtureRequest) -> str:
    """Each client, installed."""
    name: str = request.param
    try:
        if name == clients.TRANSFORMERS_JS:
            clients.node_modules()
        else:
            environment.interpreter(clients.PYTHON_CLIENTS.get(name) or clients.PYTHON_CLIENTS["fastembed"])
    except ResourceError as error:
        pytest.skip(error.message)
    return name


def agree(outcomes: list[clients.Outcome], folders: set[str]) -> None:
    def disagrees(outcome: clients.Outcome) -> bool:
        rounded = "int8" in outcome.folder and TINY_INT8 <= (outcome.agreement or 0) <= 1
        return not (outcome.agrees or rounded)

    assert [clients.describe(outcome) for outcome in outcomes if disagrees(outcome)] == []
    assert {outcome.folder for outcome in outcomes} == folders


def reranker_and_task(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return a tiny reranker and the task that it was trained on."""
    write_retrieval(folder / "beir")
    write_candidates(tiny.write_embedder(folder / "retriever"), str(folder / "beir"), folder / "a.run")
    task = {"kind": "text-ranking", "beir": str(folder / "beir"), "run": str(folder / "a.run"), "shares": [0.5, 0.25, 0.25]}
    compress.finetune(tiny.write_encoder(folder / "encoder"), task, folder / "reranker", epochs=1, batch_size=32, precision="fp32")
    return folder / "reranker", task


EVERY = {"graph", "int8", "layout sentence-transformers", "layout transformers.js, graph", "layout transformers.js, int8",
         "layout text-embeddings-inference, int8"}  # fmt: skip


def test_every_folder_of_an_embedder_with_a_dense_layer_and_a_prompt(client: str, tmp_path: Path) -> None:
    model = tiny.write_embedder(tmp_path / "model", dense=12)
    prompts = {"prompts": {"query": "we "}, "default_prompt_name": "query"}
    (model / "config_sentence_transformers.json").write_text(json.dumps(prompts), encoding="utf-8")
    task = tiny.write_texts(tmp_path / "data", 16, 8)
    found = clients.compare_all(model, tmp_path, False, [client], task)
    agree(found, {name for name in EVERY if "transformers.js" in name} if client == clients.TRANSFORMERS_JS else EVERY)


def test_first_token_pooling(client: str, tmp_path: Path) -> None:
    if client == clients.TRANSFORMERS_JS:
        pytest.skip("the pooling is in the graph: covered by the other test")
    compress.export(tiny.write_embedder(tmp_path / "model", pooling=("cls",)), tmp_path / "graph", token_embeddings=True)
    agree([clients.compare(client, tmp_path / "graph", "graph", False, clients.TEXTS)], {"graph"})


def test_every_folder_of_a_reranker(client: str, tmp_path: Path) -> None:
    if client == clients.ONNXRUNTIME:
        pytest.skip("its lines are those of a regression, which tests/unit/report/test_card.py runs")
    model, task = reranker_and_task(tmp_path)
    found = clients.compare_all(model, tmp_path, True, [client], task)
    agree(found, {name for name in EVERY if "transformers.js" in name} if client == clients.TRANSFORMERS_JS else EVERY)


@pytest.mark.parametrize("reranker", [False, True])
def test_checkpoints_in_pytorch(reranker: bool, client: str, tmp_path: Path) -> None:
    if client != "sentence-transformers":
        pytest.skip("it opens graphs only")
    if reranker:
        made, _ = reranker_and_task(tmp_path)
    else:
        made = tmp_path / "made"
        task = tiny.write_texts(tmp_path / "data", 16, 8)
        teacher = tiny.write_embedder(tmp_path / "teacher")
        compress.distill(teacher, "layers=2,hidden=16,heads=4,ffn=32", task, made, epochs=1, batch_size=8)
    manifest = artifacts.read_manifest(made) or {}
    (made / "README.md").write_text(model_card("tiny", "made", {"made": manifest}, made), encoding="utf-8")
    agree([clients.compare(client, made, "checkpoint", reranker, clients.TEXTS)], {"checkpoint"})


def test_the_real_embedder(client: str, tmp_path: Path) -> None:
    try:
        model = locate("builtin:minilm-l6")
    except ResourceError as error:
        pytest.skip(error.message)
    compress.quantize(model, None, tmp_path / "int8", method="dynamic")
    layout = {} if client != clients.TRANSFORMERS_JS else {"layout": client}
    for name, source in (("laid", model), ("laid-int8", tmp_path / "int8")):
        if layout or source == model:
            compress.export(source, tmp_path / name, **layout)  # pyright: ignore[reportArgumentType]
    texts = [*clients.TEXTS, *clients.MORE_TEXTS, *(clients.LONG_TEXTS if client != clients.TRANSFORMERS_JS else [])]
    folders = {"graph": tmp_path / "laid", "int8": tmp_path / ("laid-int8" if layout else "int8")}
    outcomes = [clients.compare(client, folder, name, False, texts) for name, folder in folders.items()]
    assert [clients.describe(outcome) for outcome in outcomes if not outcome.agrees] == []


def test_text_embeddings_inference_finds_its_files_and_output(tmp_path: Path) -> None:
    """It reads `sentence_embedding` of `onnx/model.onnx`, the pooling from `1_Pooling`, and the length from `sentence_bert_config.json`."""
    import onnxruntime

    compress.export(tiny.write_embedder(tmp_path / "model"), tmp_path / "tei", layout="text-embeddings-inference")
    session = onnxruntime.InferenceSession(str(tmp_path / "tei" / "onnx" / "model.onnx"))
    assert "sentence_embedding" in [entry.name for entry in session.get_outputs()]
    ids = np.array([[2, 7, 3]])
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    (vectors,) = session.run(["sentence_embedding"], batch)
    assert np.linalg.norm(np.asarray(vectors)[0]) == pytest.approx(1, abs=1e-5)
    for name in ("config.json", "tokenizer.json", "1_Pooling/config.json", "sentence_bert_config.json", "modules.json"):
        assert (tmp_path / "tei" / name).is_file()
    assert "text-embeddings-router --model-id ." in (tmp_path / "tei" / "README.md").read_text(encoding="utf-8")
