"""The loss of a batch in distillation: the weighted sum of losses of outputs, labels and layers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import nn

from compress.distill.features import Feature, computed_tokens, feature_width, forward_with_features
from compress.distill.layer_matching import LayerMatch
from compress.distill.losses import dkd_logits_loss, hidden_mse, hidden_nmse, logits_loss
from compress.distill.losses_attention import attention_mse, attention_scores, relation_kl
from compress.distill.losses_states import cka_distance, gram_mse, ordered_assignment, pkd_mse
from compress.distill.losses_vectors import listwise_kl, margin_mse, similarity_kl
from compress.distill.training_data import TrainingData
from compress.models.activation import activation_of
from compress.models.device import Batch, to_tensors
from compress.models.model_shape import model_shape
from compress.models.task_loss import logits_of, task_loss
from compress.models.types import TransformersModel
from compress.settings import DistillSettings
from compress.settings.distill_losses import RANKED

DKD_BETA = 8.0
Features = dict[Feature, torch.Tensor]
Terms = Literal["all", "layers", "outputs"]


class DistillationLoss:
    """`loss(batch, positions)` is the loss of a batch of the student's inputs, of the examples, or lists of examples, at `positions`.

    Args:
        student: the model that is trained.
        teacher: the model that it is compared with.
        data: the examples and the teachers' outputs.
        matches: the losses of layers.
        settings: have the weights and temperature of the losses of outputs.
        device: where to compute.
        terms: the losses that are summed: `all`, those of `layers` only, or those of `outputs` and labels only.
    """

    def __init__(
        self, student: TransformersModel, teacher: TransformersModel, data: TrainingData, matches: Sequence[LayerMatch],
        settings: DistillSettings, device: torch.device, terms: Terms = "all",
    ) -> None:  # fmt: skip
        self.student, self.teacher, self.data, self.matches = student, teacher, data, matches
        self.settings, self.device, self.terms = settings, device, terms
        self.projections = create_projections(student, teacher, matches).to(device)

    def restricted_to(self, terms: Terms) -> DistillationLoss:
        """Return the same loss with some of its terms only; it shares the projections."""
        restricted = copy.copy(self)
        restricted.terms = terms
        return restricted

    def parameters(self) -> list[nn.Parameter]:
        """Return the weights of the projections, which are trained but not saved with the student."""
        return list(self.projections.parameters())

    def __call__(self, batch: Batch, positions: np.ndarray) -> torch.Tensor:
        """Return the loss of a batch, a scalar."""
        positions = self.data.rows(positions)
        matches = self.matches if self.terms != "outputs" else []
        outputs, features = forward_with_features(self.student, batch, {feature for match in matches for feature in match.student_features})
        computed = computed_tokens(self.student, features)
        logits = logits_of(outputs).float()
        loss = logits.new_zeros(()) if self.terms == "layers" else self._of_outputs(logits, batch["attention_mask"], positions)
        if matches:
            teacher_features = self._teacher_features(batch, positions)
            mask = batch["attention_mask"] * torch.from_numpy(self.data.same_tokens[positions]).to(self.device).unsqueeze(1)
            with torch.autocast(self.device.type, enabled=False):  # sums over whole batches need full precision
                for match, projection in zip(matches, self.projections, strict=True):
                    seen = mask
                    for feature in match.student_features if computed else ():
                        seen = seen * computed[feature]
                    loss = loss + match.weight * self._of_layers(match, projection, features, teacher_features, seen)
        return loss

    def _of_outputs(self, logits: torch.Tensor, mask: torch.Tensor, positions: np.ndarray) -> torch.Tensor:
        """Return the losses of the teacher's logits and of the labels."""
        settings, data = self.settings, self.data
        hard, temperature = settings.hard_weight or 0.0, settings.temperature or 1.0
        labels = torch.from_numpy(data.student_inputs.targets(positions)).to(self.device)
        teacher_logits = data.outputs.logits_batch(positions, logits).to(self.device)
        loss = 0 * logits.sum()
        for name, weight in settings.losses.items():
            if name == "logits":
                term = logits_loss(logits, teacher_logits, labels, mask, data.target, temperature)
            elif name == "dkd":
                beta = DKD_BETA if settings.dkd_beta is None else settings.dkd_beta
                term = dkd_logits_loss(logits, teacher_logits, labels, mask, data.target, temperature, beta, data.labeled)
            elif name == "similarity":
                term = similarity_kl(logits, teacher_logits)
            elif name in RANKED:
                own, expected = (scores.view(-1, data.list_size) for scores in (logits, teacher_logits))
                term = margin_mse(own, expected) if name == "margin_mse" else listwise_kl(own, expected, temperature)
            else:
                continue
            loss = loss + (1 - hard) * weight * term
        return loss + hard * task_loss(logits, labels, mask, data.target, activation=activation_of(self.student)) if hard else loss

    def _teacher_features(self, batch: Batch, positions: np.ndarray) -> Features:
        """Return the teacher's features, cached or computed now, with as many tokens as the student's batch has."""
        data, tokens = self.data, batch["input_ids"].shape[1]
        if data.outputs.features is not None:
            return {feature: states.to(self.device) for feature, states in data.outputs.features_batch(positions, tokens).items()}
        inputs = to_tensors(data.teacher_inputs.batch(positions), self.teacher, self.device)
        with torch.no_grad():
            _, features = forward_with_features(
                self.teacher, inputs, {feature for match in self.matches for feature in match.teacher_features}
            )
        return {
            feature: nn.functional.pad(states[:, :tokens], (0, 0, 0, max(0, tokens - states.shape[1])))
            for feature, states in features.items()
        }

    def _of_layers(
        self, match: LayerMatch, projection: nn.Module, student_features: Features, teacher_features: Features, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of one match."""
        student = [student_features[feature].float() for feature in match.student_features]
        teacher = [teacher_features[feature].float() for feature in match.teacher_features]
        if match.method == "cofi":
            return cofi_loss([projection(states) for states in student], teacher, mask)
        if match.method == "attention":
            heads = model_shape(self.student).layers[match.student - 1].heads
            return attention_mse(attention_scores(student[0], student[1], heads), attention_scores(teacher[0], teacher[1], heads), mask)
        if match.method == "relations":
            return torch.stack([relation_kl(a, b, mask, match.relation_heads) for a, b in zip(student, teacher, strict=True)]).sum()
        if match.method == "gram":
            return gram_mse(student[0], teacher[0], mask)
        if match.method == "cka":
            return cka_distance(student[0], teacher[0], mask)
        if match.method == "pkd":
            return pkd_mse(projection(student[0][:, 0]), teacher[0][:, 0])
        error = hidden_nmse if match.method == "nmse" else hidden_mse
        return error(projection(student[0]), teacher[0], mask)


def cofi_loss(student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """CoFi (Xia et al. 2022, arXiv 2204.00408), eq. 6: the sum over the teacher's layers of the error at the nearest student layer.

    Args:
        student: projected states of the candidate layers, (batch, tokens, width) each.
        teacher: states of the teacher's layers, the same shape.
        mask: (batch, tokens), 1 for real tokens.
    """
    with torch.no_grad():
        costs = [[float(hidden_mse(states, expected, mask)) for states in student] for expected in teacher]
    nearest = ordered_assignment(costs)
    return torch.stack([hidden_mse(student[number], expected, mask) for number, expected in zip(nearest, teacher, strict=True)]).sum()


def create_projections(student: TransformersModel, teacher: TransformersModel, matches: Sequence[LayerMatch]) -> nn.ModuleList:
    """Return for each match the projection from the student's states to the teacher's width.

    It is learned if states are compared dimension by dimension and the widths differ; otherwise it is the identity. CoFi's is always
    learned and starts as the identity if widths agree.
    """
    projections: list[nn.Module] = []
    for match in matches:
        narrow, wide = feature_width(student, match.student_features[0]), feature_width(teacher, match.teacher_features[0])
        if not match.projected or (narrow == wide and match.method != "cofi"):
            projections.append(nn.Identity())
            continue
        linear = nn.Linear(narrow, wide, bias=False)
        if narrow == wide:
            nn.init.eye_(linear.weight)
        projections.append(linear)
    return nn.ModuleList(projections)
