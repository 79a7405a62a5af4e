"""The loss of a batch in distillation: the teacher's answers, the labels, and what goes on inside, weighted as asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.distill.cache import TeacherOutputs
from compress.distill.features import Feature, observe, width_of
from compress.distill.layer_matching import Match
from compress.distill.losses import decoupled_loss, hidden_mse, hidden_nmse, logits_loss
from compress.distill.losses_attention import attention_mse, attention_scores, relation_kl
from compress.distill.losses_states import cka_distance, gram_mse, ordered_match, pkd_mse
from compress.models.device import Batch, to_tensors
from compress.models.model_shape import model_shape
from compress.models.task_loss import logits_of, task_loss
from compress.settings import DistillSettings

DKD_BETA = 8.0
Features = dict[Feature, torch.Tensor]
Terms = Literal["all", "layers", "outputs"]


@dataclass(frozen=True)
class Lessons:
    """What a student learns from: the teacher, its answers, the examples as each of the two reads them.

    `aligned` tells of each example whether its tokens are the same on both sides: only there tokens are compared.
    """

    teacher: Any
    answers: TeacherOutputs
    data: Encoded  # as the student's tokenizer cuts them, labels in the numbering of its logits
    teacher_data: Encoded
    aligned: np.ndarray
    target: Target
    labeled: bool  # whether the labels are true


class Objective:
    """`objective(batch, positions)` is the loss of a batch; `parameters()` are what is learned beside the student."""

    def __init__(self, student: Any, lessons: Lessons, pairs: list[Match], settings: DistillSettings, device: torch.device) -> None:
        self.student, self.lessons, self.pairs, self.settings, self.device = student, lessons, pairs, settings, device
        self.projections = projections(student, lessons.teacher, pairs).to(device)
        self.terms: Terms = "all"

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the projections' weights, which are not kept with the student."""
        return self.projections.parameters()

    def __call__(self, batch: Batch, positions: np.ndarray) -> torch.Tensor:
        """Return the loss of a batch of the student's inputs, of the examples at `positions`."""
        layered = self.pairs if self.terms != "outputs" else []
        outputs, seen = observe(self.student, batch, {feature for match in layered for feature in match.of_student})
        logits = logits_of(outputs).float()
        loss = logits.new_zeros(()) if self.terms == "layers" else self._of_outputs(logits, batch["attention_mask"], positions)
        if layered:
            wanted = self._teacher_features(batch, positions)
            real = batch["attention_mask"] * torch.from_numpy(self.lessons.aligned[positions]).to(self.device).unsqueeze(1)
            with torch.autocast(self.device.type, enabled=False):  # products of whole batches, in full precision
                for number, match in enumerate(layered):
                    loss = loss + match.weight * self._of_layers(number, match, seen, wanted, real)
        return loss

    def _of_outputs(self, logits: torch.Tensor, mask: torch.Tensor, positions: np.ndarray) -> torch.Tensor:
        """The teacher's answers, and the labels."""
        settings, lessons = self.settings, self.lessons
        hard, temperature = settings.hard_weight or 0.0, settings.temperature or 1.0
        labels = torch.from_numpy(lessons.data.targets(positions)).to(self.device)
        soft = lessons.answers.logits_batch(positions, logits).to(self.device)
        loss = 0 * logits.sum()
        for name, weight in settings.losses.items():
            if name == "logits":
                own = logits_loss(logits, soft, labels, mask, lessons.target, temperature)
            elif name == "dkd":
                beta = DKD_BETA if settings.dkd_beta is None else settings.dkd_beta
                own = decoupled_loss(logits, soft, labels, mask, lessons.target, temperature, beta, lessons.labeled)
            else:
                continue
            loss = loss + (1 - hard) * weight * own
        return loss + hard * task_loss(logits, labels, mask, lessons.target) if hard else loss

    def _teacher_features(self, batch: Batch, positions: np.ndarray) -> Features:
        """The teacher's features, from the cache or by running it, in as many tokens as the student's batch has."""
        lessons, tokens = self.lessons, batch["input_ids"].shape[1]
        if lessons.answers.features is not None:
            return {feature: states.to(self.device) for feature, states in lessons.answers.features_batch(positions, tokens).items()}
        inputs = to_tensors(lessons.teacher_data.batch(positions), lessons.teacher, self.device)
        with torch.no_grad():
            _, found = observe(lessons.teacher, inputs, {feature for match in self.pairs for feature in match.of_teacher})
        return {
            feature: nn.functional.pad(states[:, :tokens], (0, 0, 0, max(0, tokens - states.shape[1]))) for feature, states in found.items()
        }

    def _of_layers(self, number: int, match: Match, student: Features, teacher: Features, mask: torch.Tensor) -> torch.Tensor:
        """The loss of one match."""
        below = [student[feature].float() for feature in match.of_student]
        above = [teacher[feature].float() for feature in match.of_teacher]
        if match.method == "cofi":
            return self._nearest(self.projections[number], below, above, mask)
        if match.method == "attention":
            heads = model_shape(self.student).layers[match.student - 1].heads
            return attention_mse(attention_scores(below[0], below[1], heads), attention_scores(above[0], above[1], heads), mask)
        if match.method == "relations":
            parts = [relation_kl(own, wanted, mask, match.heads) for own, wanted in zip(below, above, strict=True)]
            return torch.stack(parts).sum()
        if match.method == "gram":
            return gram_mse(below[0], above[0], mask)
        if match.method == "cka":
            return cka_distance(below[0], above[0], mask)
        if match.method == "pkd":
            return pkd_mse(self.projections[number](below[0][:, 0]), above[0][:, 0])
        error = hidden_nmse if match.method == "nmse" else hidden_mse
        return error(self.projections[number](below[0]), above[0], mask)

    def _nearest(self, projection: nn.Module, below: list[torch.Tensor], above: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        """CoFi (Xia et al. 2022, arXiv 2204.00408), eq. 6: the sum over the teacher's layers of the error at the nearest layer."""
        states = [projection(state) for state in below]
        with torch.no_grad():
            costs = [[float(hidden_mse(state, wanted, mask)) for state in states] for wanted in above]
        chosen = ordered_match(costs)
        return torch.stack([hidden_mse(states[own], wanted, mask) for own, wanted in zip(chosen, above, strict=True)]).sum()


def projections(student: Any, teacher: Any, pairs: list[Match]) -> nn.ModuleList:
    """Return for each match the map from the student's states to the teacher's width.

    Where states are compared by dimension and widths differ it is learned; where widths agree it is the identity, which CoFi's
    learns to leave.
    """
    found: list[nn.Module] = []
    for match in pairs:
        narrow, wide = (width_of(model, features[0]) for model, features in ((student, match.of_student), (teacher, match.of_teacher)))
        if not match.projected or (narrow == wide and match.method != "cofi"):
            found.append(nn.Identity())
            continue
        linear = nn.Linear(narrow, wide, bias=False)
        if narrow == wide:
            nn.init.eye_(linear.weight)
        found.append(linear)
    return nn.ModuleList(found)
