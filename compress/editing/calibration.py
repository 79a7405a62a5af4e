"""Calibration data: the texts on which models are scored and fitted without being trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.data.examples import Examples
from compress.data.input_spec import Target
from compress.editing.least_squares import shuffle_batches
from compress.models.activation import activation_of
from compress.models.device import Batch, to_tensors
from compress.models.task_loss import logits_of, sampled_labels, task_loss
from compress.models.types import TransformersModel

BATCH_SIZE = 32
LossOf = Callable[[np.ndarray], torch.Tensor]  # the loss of the examples at some positions


@dataclass(frozen=True)
class Calibration:
    """A sample of the training texts, or of unlabeled ones, encoded for the model that is made smaller.

    Attributes:
        examples: the texts that the sample was drawn from.
        data: the encoded sample; its labels use the model's class numbers.
        labeled: whether the labels are real; those of unlabeled texts are zeros.
        target: what the model predicts.
        seed: of every draw and order.
    """

    examples: Examples
    data: Encoded
    labeled: bool
    target: Target
    seed: int

    @property
    def mean_length(self) -> int:
        """The mean number of tokens of a text, rounded."""
        return round(float(self.data.lengths.mean()))

    def share_of(self, tokens: int) -> float:
        """Return the share of the texts that has about so many tokens together, at most 1."""
        return min(1.0, tokens / max(1, int(self.data.lengths.sum())))

    def exceeds(self, tokens: int) -> bool:
        """Return whether the texts have more tokens together than this, and not only by chance of the draw."""
        return int(self.data.lengths.sum()) > 1.2 * tokens

    def batches(self, share: float = 1.0) -> list[np.ndarray]:
        """Return the positions of batches of similar lengths, from a random share of the texts (one batch at least)."""
        chosen = np.sort(self._order[: max(BATCH_SIZE, round(share * len(self.data)))])
        return [chosen[positions] for positions in evaluation_batches(self.data.lengths[chosen], BATCH_SIZE)]

    def shuffled_batches(self, share: float = 1.0) -> list[np.ndarray]:
        """Return the same batches in random order, two at least, so that every n-th one is a fair held-out sample."""
        return shuffle_batches(self.batches(share), self.seed)

    def inputs(self, positions: np.ndarray, model: TransformersModel, device: torch.device) -> Batch:
        """Return a model's inputs for the texts at `positions`, on a device."""
        return to_tensors(self.data.batch(positions), model, device)

    def loss(self, model: TransformersModel, *, sampled: bool, summed: bool = True) -> LossOf:
        """Return the loss of `model` on a batch, as a function of the batch's positions.

        Args:
            model: the model, in evaluation mode.
            sampled: draw the labels from the model's own predictions, so that squared gradients estimate the Fisher information;
                texts without labels are always handled so. A new function starts with the same draws.
            summed: sum over the examples (so that each example's gradient is its own) instead of averaging.
        """
        draw = torch.Generator().manual_seed(self.seed)
        sampled, activation = sampled or not self.labeled, activation_of(model)

        def loss_of(positions: np.ndarray) -> torch.Tensor:
            batch = self.inputs(positions, model, model.device)
            logits = logits_of(model(**batch))
            labels = torch.from_numpy(self.data.targets(positions)).to(model.device)
            if sampled:
                labels = sampled_labels(logits.detach(), labels, batch["attention_mask"], self.target, draw, activation)
            return task_loss(logits, labels, batch["attention_mask"], self.target, summed=summed, activation=activation)

        return loss_of

    @cached_property
    def _order(self) -> np.ndarray:
        return np.random.default_rng(self.seed).permutation(len(self.data))
