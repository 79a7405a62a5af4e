"""Single weights: zeros in the encoder's linears, the rest corrected for them. A size option, and it says so.

SparseGPT (Frantar and Alistarh 2023, arXiv 2301.00774, algorithm 1): column by column, what a removed weight contributed
is given to the columns right of it, by the inverse of the inputs' Gram matrix.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from compress.editing.layerwise import captured_inputs, first_layer_inputs
from compress.models.device import Batch
from compress.models.layers import Layer, encoder_layers

SIZE_ONLY = (
    "sparse weights make the compressed file smaller and nothing faster: dense runtimes (ONNX Runtime, PyTorch, OpenVINO) compute "
    "zeros like other numbers"
)
Pattern = Literal["unstructured", "2:4"]
BLOCK = 128  # columns between which masks are chosen
DAMPING = 0.01  # of the mean diagonal, added to the Gram matrix
GROUP = 4  # of the 2:4 pattern


@torch.no_grad()
def sparsify(
    model: Any, batches: Sequence[Batch], pattern: Pattern, sparsity: float = 0.5, advance: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Zero a share of the weights of every layer's six linears, in place, going up the layers.

    Args:
        model: a model with its head in evaluation mode, dense or pruned, on the CPU.
        batches: calibration inputs; padding does not count.
        pattern: `unstructured`: the share `sparsity` of each block of 128 columns, in each row; `2:4`: two of every four
            neighbours in a row.
        sparsity: of the unstructured pattern.
        advance: called after each layer.

    Returns:
        The share of zeros by the linears' roles.
    """
    masks = [batch["attention_mask"].bool() for batch in batches]
    stream = first_layer_inputs(model, batches)
    counted: dict[str, list[int]] = {}
    for layer in encoder_layers(model):
        groups = _by_input(layer)
        grams = [torch.zeros(linears[0][1].in_features, linears[0][1].in_features, dtype=torch.float64) for linears in groups]
        for number, mask in enumerate(masks):
            with captured_inputs(*(linears[0][1] for linears in groups)) as seen:
                stream.run(layer, number)
            for gram, rows in zip(grams, seen, strict=True):
                chosen = rows[mask].float()
                gram += (chosen.T @ chosen).double().cpu()
        for gram, linears in zip(grams, groups, strict=True):
            for role, linear in linears:
                if linear.weight.numel():
                    linear.weight.copy_(sparse_weight(linear.weight, gram, pattern, sparsity))
                zeros = counted.setdefault(role, [0, 0])
                zeros[0] += int((linear.weight == 0).sum())
                zeros[1] += linear.weight.numel()
        for number in range(len(masks)):
            stream.states[number] = stream.run(layer, number)
        advance()
    return {role: zeros / max(1, total) for role, (zeros, total) in counted.items()}


def _by_input(layer: Layer) -> list[list[tuple[str, nn.Linear]]]:
    """Return a layer's linears, those with the same input together."""
    attention = [(role, linear) for role in ("query", "key", "value") if (linear := getattr(layer, role)) is not None]
    alone = [[(role, getattr(layer, role))] for role in ("attention_output", "ffn_in", "ffn_out")]
    return [attention, *alone] if attention else alone


def sparse_weight(weight: torch.Tensor, gram: torch.Tensor, pattern: Pattern, sparsity: float) -> torch.Tensor:
    """Return a weight (outputs, inputs) with zeros, corrected for them.

    Args:
        weight: of a linear.
        gram: X'X of its inputs, (inputs, inputs) float64.
        pattern: which weights may go.
        sparsity: share of zeros of the unstructured pattern.
    """
    work = weight.detach().double().cpu().clone()
    width = work.shape[1]
    damped = gram + (DAMPING * gram.diagonal().mean().clamp_min(1e-12)) * torch.eye(width, dtype=torch.float64)
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    gone = torch.zeros_like(work, dtype=torch.bool)
    step = GROUP if pattern == "2:4" else BLOCK
    for column in range(width):
        if column % step == 0:
            gone[:, column : column + step] = _chosen(work[:, column : column + step], factor, column, pattern, sparsity)
        lost = torch.where(gone[:, column], work[:, column], 0.0)
        work[:, column:] -= torch.outer(lost / factor[column, column], factor[column, column:])
    return torch.where(gone, 0.0, work).float()


def _chosen(part: torch.Tensor, factor: torch.Tensor, start: int, pattern: Pattern, sparsity: float) -> torch.Tensor:
    """Choose which weights of some columns go, in each row those that cost least: w^2 / (H^-1 factor's diagonal)^2."""
    count = part.shape[1]
    cost = part.square() / factor.diagonal()[start : start + count].square()
    number = min(count // 2, GROUP // 2) if pattern == "2:4" else round(sparsity * count)
    return torch.zeros_like(part, dtype=torch.bool).scatter_(1, cost.argsort(dim=1, stable=True)[:, :number], True)


def zipped_bytes(model: Any) -> int:
    """Return the size of the encoder layers' weights as float32, compressed by zlib (level 6)."""
    found = [linear for layer in encoder_layers(model) for linears in _by_input(layer) for _, linear in linears]
    return sum(len(zlib.compress(linear.weight.detach().cpu().numpy().tobytes(), 6)) for linear in found)
