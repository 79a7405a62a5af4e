"""Refit pruned models to the dense model on the calibration texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch

from compress.core import console
from compress.distill.teacher_outputs import TeacherOutputs, compute_teacher_outputs
from compress.editing.calibration import Calibration
from compress.editing.dense_model import DenseModel
from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.models.device import Batch
from compress.models.inputs import MAX_TOKENS
from compress.models.reference import digest_model
from compress.models.types import TransformersModel
from compress.prune.head_refit import refit_head
from compress.prune.joint_refit import refit_jointly
from compress.prune.readout_refit import refit_readout
from compress.prune.vector_map import refit_vector_map

FITTED_TOKENS = 25_000  # of the calibration texts, for least squares: sixteen to each input of a MiniLM's FFN output


class Refitter:
    """Brings models that were cut out of a dense model back to its outputs.

    What it needs of the dense model is computed once, when first needed.

    Args:
        dense: the dense model.
        calibration: the texts to fit on.
        epochs: passes of the joint refit, 0 for none.
        device: where to compute.
    """

    def __init__(self, dense: DenseModel, calibration: Calibration, epochs: int, device: torch.device) -> None:
        self.dense, self.calibration, self.epochs, self.device = dense, calibration, epochs, device

    @cached_property
    def head_positions(self) -> list[np.ndarray]:
        """The positions of batches that a head or readout is fitted on, in random order, two at least: of all texts, if not too many."""
        if self.dense.target == "vector" or self.calibration.exceeds(MAX_TOKENS):
            return self.calibration.shuffled_batches(self.calibration.share_of(MAX_TOKENS))
        return self.calibration.shuffled_batches()

    @cached_property
    def fitted_positions(self) -> list[np.ndarray]:
        """The positions of the batches that layers are fitted on, in random order, two at least."""
        return self.calibration.shuffled_batches(self.calibration.share_of(FITTED_TOKENS))

    @cached_property
    def fitted_batches(self) -> list[Batch]:
        """The batches that layers are fitted on."""
        return [self.calibration.inputs(positions, self.dense.model, self.device) for positions in self.fitted_positions]

    @cached_property
    def teacher(self) -> DenseTargets:
        """The dense model's sublayer outputs on these batches."""
        return DenseTargets(self.dense.model, self.fitted_batches)

    @cached_property
    def dense_outputs(self) -> TeacherOutputs:
        """The dense model's logits of all texts, and its hidden states if the joint refit needs them."""
        states = [("hidden", number + 1) for number in range(len(self.dense.shape.layers))] if self.epochs else []
        teacher = self.dense.model.to(self.device)
        return compute_teacher_outputs(teacher, digest_model(self.dense.source), self.calibration.data, states, self.device)

    def refit_layers(self, model: TransformersModel, origins: Sequence[int]) -> dict[str, object]:
        """Refit the output projections layer by layer, then the head's last linear (of an embedder its readout), in place.

        Args:
            model: the pruned model.
            origins: the position of each of its layers in the dense model.

        Returns:
            The errors on held-out texts before and after: `layers`, a dictionary for each, and `head`.
        """
        model.to(self.device)
        self.dense.model.to(self.device)
        with console.progress("refitting layers", len(self.dense.shape.layers)) as advance:
            layers = reconstruct(model, self.teacher, origins, advance)
        if self.dense.target == "vector":
            readout = refit_readout(model, self.calibration.data, self.head_positions, self.dense_outputs, self.device)
            model.to("cpu")
            return {"layers": layers, "head": readout}
        # a text has one row of logits, so the head's fit takes all texts; where each token has one, fewer texts are enough
        positions = self.fitted_positions if self.dense.target in ("tags", "span", "mentions") else self.head_positions
        head = refit_head(model, self.calibration.data, positions, self.dense_outputs, self.dense.target, self.device)
        model.to("cpu")
        return {"layers": layers, "head": head}

    def refit_whole(self, model: TransformersModel, origins: Sequence[int]) -> dict[str, object]:
        """Fit all weights but the embeddings', in place, if the settings ask for it, then map an embedder's vectors to the dense ones.

        Returns:
            The errors on held-out texts before and after: `joint` and, of an embedder, `vectors`.
        """
        errors: dict[str, object] = {}
        if self.epochs:
            errors["joint"] = refit_jointly(model, self.dense, self.calibration, self.dense_outputs, origins, self.epochs, self.device)
        if self.dense.target == "vector":
            batches = self.calibration.shuffled_batches()
            errors["vectors"] = refit_vector_map(model, self.calibration.data, batches, self.dense_outputs, self.device)
        model.to("cpu")
        return errors
