"""Fine-tune an embedder: relevant documents of queries with in-batch negatives, or pairs of texts with scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from compress.core import console
from compress.core.errors import DataError
from compress.data.collection import Collection
from compress.data.encoded_lists import EncodedLists, group_inputs
from compress.data.examples import Examples
from compress.data.judgements import Judgements
from compress.data.ranking_examples import RelevantPairs, relevant_pairs
from compress.data.task import Task
from compress.inference.corpus_search import CorpusSearch
from compress.models.device import Batch
from compress.models.inputs import encode_for
from compress.models.task_loss import logits_of
from compress.training.loop import Loss
from compress.training.ranking_losses import cosent_loss, in_batch_negatives_loss

PairLoss = Callable[[torch.Tensor, torch.Tensor, np.ndarray], torch.Tensor]  # of first and second vectors, and positions


def embedder_objective(
    task: Task, folder: Path, model: Callable[..., object], max_examples: int | None, seed: int
) -> tuple[EncodedLists, Loss]:
    """Return pairs of inputs and the loss of their vectors.

    With judgements: `in_batch_negatives_loss` over pairs of a query and a relevant document. With scored pairs: `cosent_loss`.

    Args:
        task: of the kind sentence-embedding.
        folder: whose tokenizer and prompts encode the texts.
        model: computes the vectors of a batch, given as keyword arguments.
        max_examples: pairs to train on, drawn with the seed; None: all.
        seed: of the draw.

    Raises:
        DataError: texts alone, or no training queries.
    """
    if task.retrieval is not None:
        return _judged(task, task.retrieval.examples("train"), folder, model, max_examples, seed)
    if task.spec.compares_vectors:
        raise DataError(
            "texts alone have nothing to fine-tune an embedder for",
            "give --beir, or two text columns and a score; without labels it can learn from another embedder, with distill",
        )
    examples = task.split("train").sample(max_examples, seed)
    encoded = encode_for(folder, examples, task.spec.input_spec)  # first and second text in turn
    pairs = group_inputs(encoded, np.arange(len(encoded)).reshape(-1, 2), np.asarray(examples.labels))
    scores = torch.from_numpy(pairs.labels)

    def loss(first: torch.Tensor, second: torch.Tensor, positions: np.ndarray) -> torch.Tensor:
        return cosent_loss(torch.nn.functional.cosine_similarity(first, second), scores[positions].to(first.device))

    return pairs, Loss(_of_pairs(model, loss))


def _judged(
    task: Task, examples: Examples, folder: Path, model: Callable[..., object], max_examples: int | None, seed: int
) -> tuple[EncodedLists, Loss]:
    judgements: Judgements = examples.labels
    pairs = relevant_pairs(judgements)
    if max_examples is not None and max_examples < len(pairs):
        pairs = pairs.take(np.sort(np.random.default_rng(seed).permutation(len(pairs))[:max_examples]))
    console.info(f"  {len(pairs)} relevant documents of {len(np.unique(pairs.queries))} training queries")

    def loss(first: torch.Tensor, second: torch.Tensor, positions: np.ndarray) -> torch.Tensor:
        return in_batch_negatives_loss(first, second, torch.from_numpy(pairs.relevant(positions)).to(first.device))

    return encode_relevant(task, examples, pairs, folder), Loss(_of_pairs(model, loss))


def encode_relevant(task: Task, examples: Examples, pairs: RelevantPairs, folder: Path) -> EncodedLists:
    """Return the tokenized query and document of each pair, each with its prompt; every text is tokenized once."""
    documents, places = np.unique(pairs.documents, return_inverse=True)
    corpus = pairs.judgements.corpus
    relevant = Collection([corpus.ids[document] for document in documents.tolist()], corpus.take(documents), corpus.where)
    encoded = CorpusSearch(relevant).encode(folder, examples, task.spec.input_spec)
    return group_inputs(encoded, np.stack([pairs.queries, len(examples) + places], axis=1), np.zeros(len(pairs)))


def _of_pairs(model: Callable[..., object], loss: PairLoss) -> Callable[[Batch, np.ndarray], torch.Tensor]:
    """Return the loss of a batch whose rows are first and second texts in turn."""

    def function(batch: Batch, positions: np.ndarray) -> torch.Tensor:
        first, second = (logits_of(model(**_rows(batch, start))).float() for start in (0, 1))
        return loss(first, second, positions)

    return function


def _rows(batch: Batch, start: int) -> Batch:
    """Return every second row from `start` on, without the columns that are padding in all of them: queries are short."""
    longest = int(batch["attention_mask"][start::2].sum(1).max())
    return {name: tensor[start::2, :longest] for name, tensor in batch.items()}
