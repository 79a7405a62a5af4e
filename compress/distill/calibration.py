"""A few texts of the task, by which a student's start is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.data.examples import Examples
from compress.data.input_spec import InputSpec, Target
from compress.distill.losses import logits_loss
from compress.models.device import Batch, to_tensors
from compress.models.inputs import encode_for
from compress.models.task_loss import logits_of, sampled_labels, task_loss

COUNT = 128
BATCH = 16


@dataclass(frozen=True)
class Calibration:
    """Texts of a task as a teacher reads them. `examples` are all of them; a sample is run through models."""

    examples: Examples
    folder: Path  # of the teacher's tokenizer
    input_spec: InputSpec
    seed: int

    @property
    def target(self) -> Target:
        """What the task asks for."""
        return self.input_spec.target

    @cached_property
    def sample(self) -> list[tuple[dict[str, np.ndarray], torch.Tensor]]:
        """Padded batches with their labels, of which only where tags are asked for matters."""
        order = np.random.default_rng(self.seed).permutation(len(self.examples))[:COUNT]
        data = encode_for(self.folder, self.examples.take(order), self.input_spec)
        chunks = [np.arange(start, min(start + BATCH, len(data))) for start in range(0, min(len(data), COUNT), BATCH)]
        return [(data.batch(chunk), torch.from_numpy(data.targets(chunk))) for chunk in chunks]

    def batches(self, model: Any) -> list[Batch]:
        """Return the sample as a model's inputs, on the CPU."""
        return [to_tensors(batch, model, torch.device("cpu")) for batch, _ in self.sample]

    @torch.no_grad()
    def divergence(self, student: Any, teacher: Any) -> float:
        """Return the mean loss of a student's answers against its teacher's, at temperature 1; both read the same tokens."""
        losses = []
        for batch, labels in self.sample:
            inputs = to_tensors(batch, teacher, torch.device("cpu"))
            own, wanted = (logits_of(model(**inputs)).float() for model in (student, teacher))
            losses.append(float(logits_loss(own, wanted, labels, inputs["attention_mask"], self.target, 1.0)))
        return float(np.mean(losses))

    def scored(self, model: Any) -> tuple[list[tuple[Batch, torch.Tensor]], Any]:
        """Return batches, and the loss of one summed over its examples, by labels drawn from the model's own answers."""
        draw = torch.Generator().manual_seed(self.seed)

        def loss_of(batch: tuple[Batch, torch.Tensor]) -> torch.Tensor:
            inputs, asked = batch
            logits, mask = logits_of(model(**inputs)), inputs["attention_mask"]
            drawn = sampled_labels(logits.detach(), asked, mask, self.target, draw)
            return task_loss(logits, drawn, mask, self.target, summed=True)

        return list(zip(self.batches(model), (labels for _, labels in self.sample), strict=True)), loss_of
