"""Distillation losses: pure functions of student and teacher tensors, padding masked out."""

from __future__ import annotations

import torch
from torch.nn import functional


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
