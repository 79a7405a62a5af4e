"""A few texts of the task that decide how a student is initialised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from compress.data.examples import Examples
from compress.data.input_spec import InputSpec, Target
from compress.distill.losses import logits_loss
from compress.models.activation import activation_of
from compress.models.device import Batch, to_tensors
from compress.models.inputs import encode_for
from compress.models.task_loss import logits_of, sampled_labels, task_loss
from compress.models.types import TransformersModel

COUNT = 128
BATCH = 16
LabeledBatch = tuple[Batch, torch.Tensor]


@dataclass(frozen=True)
class InitTexts:
    """Texts of a task, encoded for the teacher.

    Attributes:
        examples: all texts; a random sample of them runs through models.
        folder: of the teacher's tokenizer.
        input_spec: of the task.
        seed: of the sample, and of labels drawn from predictions.
    """

    examples: Examples
    folder: Path
    input_spec: InputSpec
    seed: int

    @property
    def target(self) -> Target:
        """What the task predicts."""
        return self.input_spec.target

    @cached_property
    def sample(self) -> list[tuple[dict[str, np.ndarray], torch.Tensor]]:
        """Padded batches with their labels, which only say which tokens of a tagged sentence count."""
        order = np.random.default_rng(self.seed).permutation(len(self.examples))[:COUNT]
        data = encode_for(self.folder, self.examples.take(order), self.input_spec)
        chunks = [np.arange(start, min(start + BATCH, len(data))) for start in range(0, min(len(data), COUNT), BATCH)]
        return [(data.batch(chunk), torch.from_numpy(data.targets(chunk))) for chunk in chunks]

    def batches(self, model: TransformersModel) -> list[Batch]:
        """Return the sample as a model's inputs, on the CPU."""
        return [to_tensors(batch, model, torch.device("cpu")) for batch, _ in self.sample]

    @torch.no_grad()
    def divergence(self, student: TransformersModel, teacher: TransformersModel) -> float:
        """Return the mean loss of a student's logits against its teacher's, at temperature 1; both have the same tokenizer."""
        losses = []
        for batch, labels in self.sample:
            inputs = to_tensors(batch, teacher, torch.device("cpu"))
            student_logits, teacher_logits = (logits_of(model(**inputs)).float() for model in (student, teacher))
            losses.append(float(logits_loss(student_logits, teacher_logits, labels, inputs["attention_mask"], self.target, 1.0)))
        return float(np.mean(losses))

    def batches_with_loss(self, model: TransformersModel) -> tuple[list[LabeledBatch], Callable[[LabeledBatch], torch.Tensor]]:
        """Return batches, and a function from a batch to its loss, summed over examples, on labels drawn from the predictions."""
        activation = activation_of(model)
        generator = torch.Generator().manual_seed(self.seed)

        def loss_of(batch: LabeledBatch) -> torch.Tensor:
            inputs, labels = batch
            logits, mask = logits_of(model(**inputs)), inputs["attention_mask"]
            drawn = sampled_labels(logits.detach(), labels, mask, self.target, generator, activation)
            return task_loss(logits, drawn, mask, self.target, summed=True, activation=activation)

        return list(zip(self.batches(model), (labels for _, labels in self.sample), strict=True)), loss_of
