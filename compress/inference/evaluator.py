"""Score models on one split of a task: the only place that computes a task's metrics from a model."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.encoded import Encoded
from compress.data.input_spec import Activation
from compress.data.judgements import Judgements, part_of_corpus
from compress.data.metrics import compute
from compress.data.task import Task
from compress.inference.batches import Forward, run_batches
from compress.inference.candidate_ranking import CandidateRanking
from compress.inference.corpus_search import CorpusSearch
from compress.inference.decoding import decode_predictions
from compress.models.activation import value_activation
from compress.models.config import read_config
from compress.models.inputs import encode_for

DOCUMENTS = 5  # of a corpus for each example of a limit


class Evaluator:
    """One split of a task, ready to score any number of models that share a tokenizer and an order of classes.

    The split is encoded once, when it is first needed.

    Args:
        task: the task.
        split: `train`, `validation` or `test`.
        tokenizer: the model folder whose tokenizer and length limit encode the split.
        classes: the task's class of each logit, as `compress.models.label_mapping.map_labels` returns it.
        limit: use the first examples only, at most this many; of a corpus all queries, and `DOCUMENTS` documents for each that is allowed.
        activation: from a logit to the value; by default that of the model in `tokenizer`.
        reference: the model whose vectors are the expected ones if the texts have no judgements, and the folder of its tokenizer.

    Raises:
        DataError: the task has no such split, or its data is unusable.
    """

    def __init__(
        self, task: Task, split: str, tokenizer: Path, classes: np.ndarray, limit: int | None = None,
        activation: Activation | None = None, reference: tuple[Forward, Path] | None = None,
    ) -> None:  # fmt: skip
        self.task, self.tokenizer, self.classes = task, tokenizer, classes
        self._activation: Activation = value_activation(read_config(tokenizer)) if activation is None else activation
        examples = task.split(split)
        judged = task.retrieval if isinstance(examples.labels, Judgements) else None
        if limit is not None and isinstance(examples.labels, Judgements) and task.spec.target == "vector":
            examples = replace(examples, labels=part_of_corpus(examples.labels, DOCUMENTS * limit))
        self._search: CorpusSearch | CandidateRanking | None = None
        if judged:
            reranks = task.spec.target == "value"
            self._search = CandidateRanking(judged.corpus, judged.candidates(split)) if reranks else CorpusSearch(examples.labels.corpus)
        self.examples = examples if limit is None or len(examples) <= limit or judged else examples.take(np.arange(limit))
        self._encoded: dict[Path, Encoded] = {}
        self._reference = reference

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def data(self) -> Encoded:
        """The encoded split."""
        return self.encoded(self.tokenizer)

    def encoded(self, tokenizer: Path) -> Encoded:
        """Return the split encoded by the tokenizer of any model folder, once per folder.

        Raises:
            ModelError: the folder has no usable tokenizer.
        """
        if tokenizer not in self._encoded:
            encode = self._search.encode if self._search else encode_for
            self._encoded[tokenizer] = encode(tokenizer, self.examples, self.task.spec.input_spec)
        return self._encoded[tokenizer]

    def predict(self, forward: Forward, data: Encoded | None = None, batch_size: int = 32, label: str = "") -> Any:
        """Return a model's predictions in the form of `Examples.labels`; see `compress.inference.decoding.decode_predictions`.

        Args:
            forward: the model, from a batch to logits.
            data: another encoding of the same examples (other tokens, or cached hidden states).
            batch_size: the most examples in a batch.
            label: title of a progress bar; no bar without one.
        """
        data = self.data if data is None else data
        return self.decode(run_batches(forward, data, batch_size, label), data)

    def decode(self, outputs: np.ndarray, data: Encoded) -> Any:
        """Return the predictions from a model's outputs for `data`, as `run_batches` returns them."""
        if self._search:
            return self._search.rankings(outputs, len(self.examples), self.tokenizer)
        input_spec = replace(self.task.spec.input_spec, activation=self._activation)
        return decode_predictions(outputs, data, self.examples, input_spec, self.classes)

    def score(self, forward: Forward, data: Encoded | None = None, label: str | None = None) -> dict[str, float]:
        """Return the task's metrics of a model, by name, each a fraction from 0 to 1 (correlations from -1).

        Args:
            forward: the model, from a batch to logits.
            data: another encoding of the same examples.
            label: title of the progress bar; `validating` by default.
        """
        predictions = self.predict(forward, data, label=label or "validating")
        return compute(self.task.spec.metrics, self.labels, predictions, self.task.class_names)

    @property
    def corpus_search(self) -> CorpusSearch | None:
        """The search that ranks a corpus by vectors, if the split has queries for one."""
        return self._search if isinstance(self._search, CorpusSearch) else None

    @cached_property
    def labels(self) -> Any:
        """The labels of the examples; the vectors of the reference model if the task has no judgements."""
        if not self.task.spec.compares_vectors:
            return self.examples.labels
        if self._reference is None:
            raise ValueError("texts without judgements are scored against a reference model, and there is none")
        forward, folder = self._reference
        return self.predict(forward, self.encoded(folder), label="reference vectors")
