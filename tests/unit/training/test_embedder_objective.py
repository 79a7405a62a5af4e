"""Fine-tuning of embedders on tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress import training
from compress.core.errors import DataError
from compress.data.presets import resolve
from compress.data.task import Task
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.adapters import adapter_size
from compress.models.checkpoint import load_model
from compress.models.device import to_tensors
from compress.models.embedder import Dense, is_embedder_model
from compress.models.family import family_of
from compress.models.task_loss import logits_of
from compress.settings import FinetuneSettings
from compress.stage import Inputs
from compress.training.embedder_objective import embedder_objective
from compress.training.ranking_losses import in_batch_negatives_loss
from tests import tiny
from tests.unit.training.retrieval_task import write_retrieval


def finetune(source: Path, document: dict[str, Any], output: Path, **settings: Any) -> dict[str, Any]:
    """Run the stage."""
    output.mkdir()
    options = FinetuneSettings(**{"precision": "fp32", "device": "cpu", "batch_size": 6, "lr": 3e-3, "epochs": 3, **settings})
    return training.run(Inputs({"model": source}, 0, Task(resolve(document))), options, output)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_relevant_documents_come_nearer(family: str, tmp_path: Path) -> None:
    source, document = tiny.write_embedder(tmp_path / "a", family), write_retrieval(tmp_path / "beir")
    result = finetune(source, document, tmp_path / "out")
    assert result["metrics"]["validation"]["n"] == 8
    assert set(result["metrics"]["validation"]) == {"n", "ndcg@10", "mrr@10", "recall@100", "map"}
    before, after = (loss_of(folder, document) for folder in (source, tmp_path / "out"))
    assert after < before
    assert is_embedder_model(load_model(tmp_path / "out"))


def loss_of(folder: Path, document: dict[str, Any]) -> float:
    """The loss of a model on all training pairs."""
    model = load_model(folder, target="vector", pooling=document.get("pooling"))
    data, loss = embedder_objective(Task(resolve(document)), folder, model, None, 0)
    positions = np.arange(len(data))
    with torch.no_grad():
        return float(loss.function(to_tensors(data.batch(positions), model, torch.device("cpu")), positions))


def test_the_loss_is_that_of_queries_and_documents_encoded_alone(tmp_path: Path) -> None:
    source, document = tiny.write_embedder(tmp_path / "a"), write_retrieval(tmp_path / "beir")
    model, task = load_model(source), Task(resolve(document))
    data, _ = embedder_objective(task, source, model, None, 0)
    vectors = []
    for ids in data.input_ids:
        with torch.no_grad():
            vectors.append(logits_of(model(torch.from_numpy(ids)[None]))[0])
    queries, documents = torch.stack(vectors[::2]), torch.stack(vectors[1::2])
    relevant = torch.eye(len(queries), dtype=torch.bool)
    assert loss_of(source, document) == pytest.approx(float(in_batch_negatives_loss(queries, documents, relevant)), rel=1e-4)


def test_scored_pairs_are_put_into_order(tmp_path: Path) -> None:
    source, document = tiny.write_embedder(tmp_path / "a"), tiny.write_scored_pairs(tmp_path / "pairs")
    result = finetune(source, document, tmp_path / "out")
    assert set(result["metrics"]["validation"]) == {"n", "spearman", "pearson"}
    assert loss_of(tmp_path / "out", document) < loss_of(source, document)


def test_fewer_examples_and_a_plain_encoder(tmp_path: Path) -> None:
    encoder, document = tiny.write_encoder(tmp_path / "encoder"), write_retrieval(tmp_path / "beir")
    data, _ = embedder_objective(Task(resolve(document)), encoder, load_model(encoder, target="vector", pooling="mean"), 5, 0)
    assert len(data) == 5
    finetune(encoder, {**document, "pooling": "mean"}, tmp_path / "out", epochs=1, max_examples=8)
    assert is_embedder_model(load_model(tmp_path / "out"))


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    source, document = tiny.write_embedder(tmp_path / "a"), write_retrieval(tmp_path / "beir")
    with pytest.raises(DataError, match="texts alone have nothing to fine-tune an embedder for"):
        finetune(source, tiny.write_texts(tmp_path / "texts"), tmp_path / "1")
    with pytest.raises(DataError, match="no judgements of the train split"):
        finetune(source, {**document, "shares": None}, tmp_path / "2")


@pytest.mark.parametrize(
    ("mode", "family", "options"),
    [
        ("lora", "bert", {}),
        ("lora", "distilbert", {"dense": 12}),
        ("adapter", "bert", {"dense": 12}),
        ("adapter", "mpnet", {"pooling": ("cls", "mean")}),
        ("frozen", "bert", {}),
        ("frozen", "roberta", {"pooling": ("max", "weightedmean"), "dense": 12}),
    ],
)
def test_a_mode_trains_its_weights_and_the_model_is_the_same_reloaded_and_in_onnx(
    mode: str, family: str, options: dict[str, Any], tmp_path: Path
) -> None:
    source, document = tiny.write_embedder(tmp_path / "a", family, **options), write_retrieval(tmp_path / "beir")
    settings: dict[str, Any] = {"lr": 2e-3, "adapter_size": 8} if mode == "adapter" else {"lr": 1e-2}
    result = finetune(source, document, tmp_path / "out", mode=mode, epochs=3, **settings)
    assert result["training"]["trained_share"] < 0.5
    assert loss_of(tmp_path / "out", document) < loss_of(source, document) or mode == "adapter"  # validation chooses the epoch
    before, model = load_model(source), load_model(tmp_path / "out")
    own, row = model.state_dict(), family_of(family)
    different = {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, own[name])}
    allowed = {"lora": (f".{row.query}.", f".{row.value}.", "steps."), "adapter": ("norm", "steps."), "frozen": ("steps.",)}[mode]
    assert all(any(part in name.lower() for part in allowed) for name in different), different
    assert adapter_size(model) == (8 if mode == "adapter" else 0)
    batch = tiny.encoded(family).batch(range(6))
    onnx = session_forward(open_session(build_graph(model).SerializeToString(), 1, "cpu", {}))
    np.testing.assert_allclose(onnx(batch), torch_forward(model)(batch), atol=5e-6)


def test_scored_pairs_train_a_dense_layer_on_cached_vectors(tmp_path: Path) -> None:
    source, document = tiny.write_embedder(tmp_path / "a"), tiny.write_scored_pairs(tmp_path / "pairs")
    finetune(source, document, tmp_path / "out", mode="frozen", lr=1e-2)
    assert loss_of(tmp_path / "out", document) < loss_of(source, document)
    assert any(isinstance(step, Dense) for step in load_model(tmp_path / "out").steps)  # pyright: ignore[reportGeneralTypeIssues]
