"""The loss of a task: what fine-tuning minimises and pruning scores by, one function for every kind."""

from __future__ import annotations

import torch
from torch.nn import functional

from compress.data.input_spec import Target

IGNORED = -100  # tags that are not asked for


def logits_of(outputs: object) -> torch.Tensor:
    """Return a transformers output's logits: (batch, classes) of a text, (batch, length, tags or 2) of its tokens."""
    logits = getattr(outputs, "logits", None)
    if logits is not None:
        return logits
    return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)  # pyright: ignore[reportAttributeAccessIssue]


def task_loss(
    logits: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor, target: Target, summed: bool = False
) -> torch.Tensor:
    """Return the loss of a batch: cross-entropy of classes, tags and span ends, binary for labels, squared for values.

    Args:
        logits: (batch, classes); (batch, length, tags); (batch, length, 2) for the ends of a span.
        labels: by target: (batch,) class numbers; (batch, labels) zeros and ones; (batch,) values; (batch, length) tags
            with -100 where none is asked for; (batch, 2) first and last token.
        attention_mask: (batch, length), 1 for real tokens.
        target: what the logits answer.
        summed: the sum over examples (tags: over tokens) in the place of the mean.
    """
    reduction = "sum" if summed else "mean"
    logits = logits.float()
    if target == "class":
        return functional.cross_entropy(logits, labels, reduction=reduction)
    if target == "labels":
        # the sum over labels is what an example's own loss is; the mean keeps the learning rate of one label
        each = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(dim=1)
        return each.sum() if summed else each.mean()
    if target == "value":
        return functional.mse_loss(logits.squeeze(-1), labels, reduction=reduction)
    if target == "tags":
        total = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum")
        return total if summed else total / (labels != IGNORED).sum().clamp_min(1)  # a window may ask for nothing
    ends = logits.masked_fill(attention_mask.unsqueeze(-1) == 0, torch.finfo(torch.float32).min)
    return sum(functional.cross_entropy(ends[..., end], labels[:, end], reduction=reduction) for end in range(2)) / 2  # pyright: ignore[reportReturnType]


def sampled_labels(
    logits: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor, target: Target, draw: torch.Generator
) -> torch.Tensor:
    """Draw labels from a model's own distribution: with these, squared gradients estimate the Fisher information.

    (Kunstner et al. 2019, arXiv 1905.12558: with the data's labels they estimate another matrix.) A value is drawn
    from a normal distribution of variance one half, whose negative log-likelihood is the squared error. Tags that are not
    asked for stay so.

    Args:
        logits: as `task_loss` takes them.
        labels: of the batch; their shape and what of them is asked for.
        attention_mask: (batch, length).
        target: what the logits answer.
        draw: the source of randomness, on the CPU.
    """
    logits = logits.float().cpu()
    if target == "value":
        noise = torch.randn(len(logits), generator=draw) * 0.5**0.5
        return (logits.squeeze(-1) + noise).to(labels.device)
    if target == "labels":
        return torch.bernoulli(torch.sigmoid(logits), generator=draw).to(labels.device)
    if target == "span":
        masked = logits.masked_fill(attention_mask.cpu().unsqueeze(-1) == 0, torch.finfo(torch.float32).min)
        ends = [torch.multinomial(torch.softmax(masked[..., end], dim=1), 1, generator=draw)[:, 0] for end in range(2)]
        return torch.stack(ends, dim=1).to(labels.device)
    flat = torch.multinomial(torch.softmax(logits.flatten(0, -2), dim=1), 1, generator=draw)[:, 0]
    drawn = flat.reshape(logits.shape[:-1]).to(labels.device)
    return torch.where(labels == IGNORED, labels, drawn) if target == "tags" else drawn
