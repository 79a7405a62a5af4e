"""Fine-tune a reranker on lists of candidates with their grades."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from compress.core import console
from compress.data.encoded_lists import EncodedLists, group_inputs
from compress.data.examples import Examples
from compress.data.judgements import Judgements
from compress.data.ranking_examples import candidate_lists, query_document_texts
from compress.data.retrieval import Retrieval
from compress.data.task import Task
from compress.models.device import Batch
from compress.models.inputs import encode_for
from compress.models.task_loss import logits_of
from compress.settings import FinetuneSettings
from compress.training.loop import Loss
from compress.training.ranking_losses import listwise_loss, pointwise_loss

LIST_SIZE = 8  # candidates of a query that are compared in a training step
LOSSES = {"listwise": listwise_loss, "pointwise": pointwise_loss}


def reranker_objective(
    task: Task, retrieval: Retrieval, folder: Path, model: Callable[..., object], settings: FinetuneSettings, seed: int
) -> tuple[EncodedLists, Loss]:
    """Return lists of inputs, each of a query with some of its candidates, and the loss of their scores.

    Args:
        task: of the kind text-ranking.
        retrieval: its corpus, queries, judgements and candidates.
        folder: whose tokenizer encodes the texts.
        model: computes the logit of each pair of a batch, given as keyword arguments.
        settings: which loss, and how many lists at most.
        seed: of the draws.

    Raises:
        DataError: there are no training judgements or candidates.
    """
    examples, rng = retrieval.examples("train"), np.random.default_rng(seed)
    judgements: Judgements = examples.labels
    lists = candidate_lists(judgements, retrieval.candidates("train"), LIST_SIZE, rng)
    if settings.max_examples is not None and settings.max_examples < len(lists):
        lists = lists.take(np.sort(rng.permutation(len(lists))[: settings.max_examples]))
    console.info(f"  {len(lists)} lists of {lists.documents.shape[1]} candidates of {len(np.unique(lists.queries))} training queries")
    queries = [examples.texts[query] for query in lists.queries.tolist()]
    texts = query_document_texts(queries, list(lists.documents), judgements.corpus)
    encoded = encode_for(folder, Examples(texts, np.zeros(len(texts), dtype=np.float32)), task.spec.input_spec)
    data = group_inputs(encoded, np.arange(len(encoded)).reshape(lists.documents.shape), lists.grades.astype(np.float32))
    loss = LOSSES[settings.ranking_loss]

    def function(batch: Batch, positions: np.ndarray) -> torch.Tensor:
        scores = logits_of(model(**batch)).float().view(len(positions), -1)  # (lists, candidates)
        return loss(scores, torch.from_numpy(data.targets(positions)).to(scores.device))

    return data, Loss(function)
