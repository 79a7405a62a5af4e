"""Everything that is refitted against the dense model, and the calibration texts that it is refitted on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.core import console
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.distill.cache import TeacherOutputs, teacher_outputs
from compress.editing.least_squares import shuffle_batches
from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.models.device import Batch, to_tensors
from compress.models.model_shape import model_shape
from compress.models.reference import digest_model
from compress.prune.head_refit import refit_readout
from compress.prune.joint_refit import refit_jointly

BATCH = 32
FITTED_TOKENS = 25_000  # of these, for refits: sixteen to each input of a MiniLM's FFN output


class Refitter:
    """A dense model on its calibration texts: what a model that was cut out of it is brought back to.

    Args:
        dense: the dense model, in evaluation mode.
        source: its folder.
        data: the calibration texts.
        target: what the logits answer.
        epochs: passes of the joint refit, 0 for none.
        device: where to compute.
        seed: of every draw and order.
    """

    def __init__(self, dense: Any, source: Path, data: Encoded, target: Target, epochs: int, device: torch.device, seed: int) -> None:
        self.dense, self.source, self.data = dense, source, data
        self.target: Target = target
        self.epochs, self.device, self.seed = epochs, device, seed

    def batches(self, share: float = 1.0) -> list[np.ndarray]:
        """Return the positions of batches of similar lengths, of a random share of the texts (a batch at least)."""
        chosen = np.sort(self._order[: max(BATCH, round(share * len(self.data)))])
        return [chosen[positions] for positions in evaluation_batches(self.data.lengths[chosen], BATCH)]

    @cached_property
    def _order(self) -> np.ndarray:
        return np.random.default_rng(self.seed).permutation(len(self.data))

    @cached_property
    def all_positions(self) -> list[np.ndarray]:
        """The positions of batches of all texts, two at least."""
        return shuffle_batches(self.batches(), self.seed)

    @cached_property
    def fitted_positions(self) -> list[np.ndarray]:
        """The positions of the batches that layers are fitted on, two at least."""
        share = min(1.0, FITTED_TOKENS / max(1, int(self.data.lengths.sum())))
        return shuffle_batches(self.batches(share), self.seed)

    @cached_property
    def fitted_batches(self) -> list[Batch]:
        """The batches that layers are fitted on."""
        return [to_tensors(self.data.batch(positions), self.dense, self.device) for positions in self.fitted_positions]

    @cached_property
    def teacher(self) -> DenseTargets:
        """The dense model on these batches."""
        return DenseTargets(self.dense, self.fitted_batches)

    @cached_property
    def answers(self) -> TeacherOutputs:
        """The dense model's logits of all texts, and the hidden states, where the joint refit needs them."""
        states = [("hidden", number + 1) for number in range(len(model_shape(self.dense).layers))] if self.epochs else []
        return teacher_outputs(self.dense.to(self.device), digest_model(self.source), self.data, states, self.device)

    def closed_forms(self, model: Any, origins: Sequence[int]) -> dict[str, Any]:
        """Refit a model's layers, then the end of its head, in place; returns the errors on held-out texts."""
        model.to(self.device)
        self.dense.to(self.device)
        with console.progress("refitting layers", len(model_shape(self.dense).layers)) as advance:
            layers = reconstruct(model, self.teacher, origins, advance)
        # a text has one row of logits, so that all texts are taken; the tokens of fewer are enough
        chosen = self.fitted_positions if self.target in ("tags", "span") else self.all_positions
        readout = refit_readout(model, self.data, chosen, self.answers, self.target, self.device)
        model.to("cpu")
        return {"layers": layers, "readout": readout}

    def jointly(self, model: Any, origins: Sequence[int]) -> dict[str, Any]:
        """Refit all that a model has but its embeddings, in place, where that is asked for; returns the errors on held-out texts."""
        if not self.epochs:
            return {}
        found = refit_jointly(
            model, self.dense, self.data, self.all_positions, self.answers, origins, self.target, self.device, self.epochs, self.seed
        )
        model.to("cpu")
        return {"joint": found}
