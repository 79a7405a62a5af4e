"""Losses of logits and hidden states: pure functions of student and teacher tensors that mask out padding."""

from __future__ import annotations

import torch
from torch.nn import functional

from compress.data.encoded import IGNORED
from compress.data.input_spec import TOKEN_LABELS, Target

EPSILON = 1e-12
MASKED_LOGIT = -1e4  # of padding: its probability is 0 in float32


def soft_cross_entropy(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Hinton et al. 2015, eq. 4: T^2 KL(softmax(teacher / T) || softmax(student / T)), mean over the batch.

    Args:
        student: logits, (batch, classes).
        teacher: logits of the same classes in the same order, (batch, classes).
        temperature: T > 0; the factor T^2 keeps the size of the gradient independent of it.
    """
    log_student = functional.log_softmax(student.float() / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, log_target=True, reduction="batchmean")


def logits_loss(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor, target: Target, temperature: float
) -> torch.Tensor:
    """Return the loss of a student's logits against its teacher's, for every target.

    Vectors: the mean squared distance over the mean square of the teacher's (LEAF, arXiv 2509.12539), which is 1 for a student of zeros.
    Classes: `soft_cross_entropy`. Labels: binary cross-entropy to sigmoid(teacher / T), times T^2. A value: the squared
    error to the teacher's. Tags: `soft_cross_entropy` over the labelled tokens. A span: the mean of `soft_cross_entropy` over the
    positions of its first and of its last token.

    Args:
        student: (batch, logits); (batch, length, tags); (batch, length, 2); (batch, size).
        teacher: the same shape.
        labels: of the batch; only which tokens have a tag (not -100) matters.
        attention_mask: (batch, length), 1 for real tokens.
        target: what the logits predict.
        temperature: T > 0.
    """
    if target == "labels":
        soft = torch.sigmoid(teacher / temperature)
        return temperature**2 * functional.binary_cross_entropy_with_logits(student / temperature, soft)
    if target == "vector":
        return (student - teacher).square().sum() / teacher.square().sum().clamp_min(EPSILON)
    if target == "value":
        return functional.mse_loss(student, teacher)
    if target in TOKEN_LABELS:
        labelled = labels != IGNORED
        if not labelled.any():
            return 0 * student.sum()
        return soft_cross_entropy(student[labelled], teacher[labelled], temperature)
    if target == "span":
        padding = attention_mask == 0
        masked = [logits.masked_fill(padding.unsqueeze(-1), MASKED_LOGIT) for logits in (student, teacher)]
        return sum(soft_cross_entropy(masked[0][..., end], masked[1][..., end], temperature) for end in range(2)) / 2  # pyright: ignore[reportReturnType]
    return soft_cross_entropy(student, teacher, temperature)


def dkd_loss(student: torch.Tensor, teacher: torch.Tensor, target: torch.Tensor, temperature: float, beta: float) -> torch.Tensor:
    """Decoupled knowledge distillation (Zhao et al. 2022, arXiv 2203.08679), eq. 7: T^2 (TCKD + beta NCKD), mean over the rows.

    TCKD is the KL divergence of (p_target, 1 - p_target), NCKD that of the distribution over the other classes. Hinton's loss is
    TCKD + (1 - p_target of the teacher) NCKD, which hardly weighs the other classes if the teacher is certain.

    Args:
        student: logits, (rows, classes), three classes or more.
        teacher: logits of the same classes, (rows, classes).
        target: the target class of each row, (rows,) int64.
        temperature: T > 0.
        beta: weight of the other classes.
    """
    is_target = functional.one_hot(target, student.shape[-1]).bool()
    parts = []
    for logits in (student.float() / temperature, teacher.float() / temperature):
        others = logits.masked_fill(is_target, MASKED_LOGIT)
        whole, rest = logits.logsumexp(-1), others.logsumexp(-1)
        binary = torch.stack([logits.gather(-1, target.unsqueeze(-1)).squeeze(-1) - whole, rest - whole], dim=-1)
        parts.append((binary, functional.log_softmax(others, dim=-1)))
    (binary_student, others_student), (binary_teacher, others_teacher) = parts
    tckd = functional.kl_div(binary_student, binary_teacher, log_target=True, reduction="batchmean")
    nckd = functional.kl_div(others_student, others_teacher, log_target=True, reduction="batchmean")
    return temperature**2 * (tckd + beta * nckd)


def dkd_logits_loss(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor, target: Target,
    temperature: float, beta: float, labeled: bool,
) -> torch.Tensor:  # fmt: skip
    """Return `dkd_loss` for targets with classes: of texts, of labelled tokens, or of the two ends of spans.

    Args:
        student: (batch, classes); (batch, length, tags); (batch, length, 2), where the classes are the real tokens.
        teacher: the same shape.
        labels: of the batch, as in `task_loss`.
        attention_mask: (batch, length), 1 for real tokens.
        target: `class`, `tags` or `span`.
        temperature: T > 0.
        beta: weight of the other classes.
        labeled: whether the labels are true ones; otherwise the teacher's most likely class is the target.
    """
    if target in TOKEN_LABELS:
        labelled = labels != IGNORED
        if not labelled.any():
            return 0 * student.sum()
        student, teacher, labels = student[labelled], teacher[labelled], labels[labelled]
    if target == "span":
        padding = (attention_mask == 0).unsqueeze(-1)
        student, teacher = (logits.masked_fill(padding, MASKED_LOGIT).transpose(1, 2).flatten(0, 1) for logits in (student, teacher))
        labels = labels.flatten()  # (batch, 2) -> rows in the order of the logits: first and last token of each example
    return dkd_loss(student, teacher, labels if labeled else teacher.argmax(-1), temperature, beta)


def hidden_mse(student: torch.Tensor, teacher: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """TinyBERT (Jiao et al. 2020), eq. 8: mean squared error of hidden states, over real tokens and dimensions.

    Args:
        student: (batch, tokens, width), already projected to the teacher's width if they differ.
        teacher: (batch, tokens, width).
        attention_mask: (batch, tokens), 1 for real tokens.
    """
    mask = attention_mask.unsqueeze(-1).float()
    difference = (student.float() - teacher.float()) * mask
    return difference.square().sum() / (mask.sum().clamp_min(1) * student.shape[-1])


def hidden_nmse(student: torch.Tensor, teacher: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Normalised mean squared error of hidden states: `hidden_mse` over the teacher's mean square.

    It is 1 for a student of zeros whatever the size of the states, so that a weight means the same for all models and layers.

    Args:
        student: (batch, tokens, width), already projected to the teacher's width if they differ.
        teacher: (batch, tokens, width).
        attention_mask: (batch, tokens), 1 for real tokens.
    """
    mean_square = hidden_mse(torch.zeros_like(teacher), teacher, attention_mask)
    return hidden_mse(student, teacher, attention_mask) / mean_square.clamp_min(EPSILON)
