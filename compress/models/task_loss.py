"""The loss of each kind of task, which fine-tuning minimises and pruning differentiates."""

from __future__ import annotations

import torch
from torch.nn import functional

from compress.data.encoded import IGNORED
from compress.data.input_spec import TOKEN_LABELS, Activation, Target
from compress.models.activation import activated


def logits_of(outputs: object) -> torch.Tensor:
    """Return the logits of a transformers output.

    (batch, classes) per text; (batch, length, tags) per token; (batch, length, 2) for the two ends of a span.
    """
    logits = getattr(outputs, "logits", None)
    if logits is not None:
        return logits
    return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)  # pyright: ignore[reportAttributeAccessIssue]


def task_loss(
    logits: torch.Tensor,
    labels: torch.Tensor,
    attention_mask: torch.Tensor,
    target: Target,
    summed: bool = False,
    activation: Activation = "none",
) -> torch.Tensor:
    """Return the loss of a batch: cross-entropy (classes, tags, span ends), binary cross-entropy (labels), squared error (values).

    That of vectors is the squared distance, summed over dimensions.

    Args:
        logits: (batch, classes); (batch, length, tags); (batch, length, 2) for the two ends of a span; (batch, size) vectors.
        labels: by target: (batch,) class numbers; (batch, labels) zeros and ones; (batch,) values; (batch, length) tags
            with -100 for tokens that are masked out; (batch, 2) first and last token; (batch, size) vectors.
        attention_mask: (batch, length), 1 for real tokens.
        target: what the logits predict.
        summed: return the sum over examples (tags: over tokens) instead of the mean.
        activation: from a logit to the value.
    """
    reduction = "sum" if summed else "mean"
    logits = logits.float()
    if target == "class":
        return functional.cross_entropy(logits, labels, reduction=reduction)
    if target == "labels":
        # mean over labels, so that the learning rate does not depend on their number
        each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=1)
        return each.sum() if summed else each.mean()
    if target == "vector":
        each = (logits - labels).square().sum(dim=1)
        return each.sum() if summed else each.mean()
    if target == "value":
        return functional.mse_loss(activated(logits.squeeze(-1), activation), labels, reduction=reduction)
    if target in TOKEN_LABELS:
        total = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return total if summed else total / (labels != IGNORED).sum().clamp_min(1)  # a window may have no tag at all
    ends = logits.masked_fill(attention_mask.unsqueeze(-1) == 0, torch.finfo(torch.float32).min)
    return sum(functional.cross_entropy(ends[..., end], labels[:, end], reduction=reduction) for end in range(2)) / 2  # pyright: ignore[reportReturnType]


def sampled_labels(
    logits: torch.Tensor,
    labels: torch.Tensor,
    attention_mask: torch.Tensor,
    target: Target,
    draw: torch.Generator,
    activation: Activation = "none",
) -> torch.Tensor:
    """Draw labels from the model's predictive distribution; with these, squared gradients estimate the Fisher information.

    With the data's labels they would estimate the empirical Fisher, another matrix (Kunstner et al. 2019, arXiv 1905.12558). A
    value is drawn from a normal distribution of variance one half, whose negative log-likelihood is the squared error. So is every
    dimension of a vector: the gradient of the loss is then that of v'e, with e the vector and v normal, whose second moments are the
    Gauss-Newton matrix (Martens 2020, arXiv 1412.1193, section 8).

    Args:
        logits: as for `task_loss`.
        labels: of the batch, for their shape and device; masked tags stay masked.
        attention_mask: (batch, length).
        target: what the logits predict.
        draw: the random generator, on the CPU.
        activation: from a logit to the value.
    """
    logits = logits.float().cpu()
    if target == "vector":
        return (logits + torch.randn(logits.shape, generator=draw) * 0.5**0.5).to(labels.device)
    if target == "value":
        noise = torch.randn(len(logits), generator=draw) * 0.5**0.5
        return (activated(logits.squeeze(-1), activation) + noise).to(labels.device)
    if target == "labels":
        return torch.bernoulli(torch.sigmoid(logits), generator=draw).to(labels.device)
    if target == "span":
        masked = logits.masked_fill(attention_mask.cpu().unsqueeze(-1) == 0, torch.finfo(torch.float32).min)
        ends = [torch.multinomial(torch.softmax(masked[..., end], dim=1), 1, generator=draw)[:, 0] for end in range(2)]
        return torch.stack(ends, dim=1).to(labels.device)
    flat = torch.multinomial(torch.softmax(logits.flatten(0, -2), dim=1), 1, generator=draw)[:, 0]
    drawn = flat.reshape(logits.shape[:-1]).to(labels.device)
    return torch.where(labels == IGNORED, labels, drawn) if target in TOKEN_LABELS else drawn
