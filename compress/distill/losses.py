"""Distillation losses: pure functions of student and teacher tensors, padding masked out."""

from __future__ import annotations

import torch
from torch.nn import functional

from compress.model.family import Target
from compress.model.objective import IGNORED

FAR_BELOW = -1e4  # the logit of padding: its probability is 0 in float32


def soft_cross_entropy(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Hinton et al. 2015, eq. 4: T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch.

    Args:
        student: logits, (batch, classes).
        teacher: logits of the same classes in the same order, (batch, classes).
        temperature: T > 0; T^2 keeps the gradient's size independent of it.
    """
    log_student = functional.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")


def logits_loss(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor, target: Target, temperature: float
) -> torch.Tensor:
    """Return the loss of a student's logits against its teacher's, for every kind of answer.

    Classes: `soft_cross_entropy`. Labels: binary cross-entropy to sigmoid(teacher / T), times T^2. A value: the squared
    error to the teacher's. Tags: `soft_cross_entropy` over the tokens that are asked for. A span: the mean of
    `soft_cross_entropy` over the places of its first and of its last token.

    Args:
        student: (batch, logits); (batch, length, tags); (batch, length, 2).
        teacher: the same shape.
        labels: of the batch; only where tags are asked for (not -100) matters here.
        attention_mask: (batch, length), 1 for real tokens.
        target: what the logits answer.
        temperature: T > 0.
    """
    if target == "labels":
        soft = torch.sigmoid(teacher / temperature)
        return temperature**2 * functional.binary_cross_entropy_with_logits(student / temperature, soft)
    if target == "value":
        return functional.mse_loss(student, teacher)
    if target == "tags":
        asked = labels != IGNORED
        if not asked.any():
            return 0 * student.sum()
        return soft_cross_entropy(student[asked], teacher[asked], temperature)
    if target == "span":
        padding = attention_mask == 0
        masked = [logits.masked_fill(padding.unsqueeze(-1), FAR_BELOW) for logits in (student, teacher)]
        return sum(soft_cross_entropy(masked[0][..., end], masked[1][..., end], temperature) for end in range(2)) / 2  # pyright: ignore[reportReturnType]
    return soft_cross_entropy(student, teacher, temperature)


def hidden_mse(student: torch.Tensor, teacher: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """TinyBERT (Jiao et al. 2020), eq. 8: mean squared error of hidden states, over real tokens and dimensions.

    Args:
        student: (batch, tokens, width), projected to the teacher's width already where they differ.
        teacher: (batch, tokens, width).
        attention_mask: (batch, tokens), 1 for real tokens.
    """
    mask = attention_mask.unsqueeze(-1).float()
    difference = (student.float() - teacher.float()) * mask
    return difference.square().sum() / (mask.sum() * student.shape[-1])
