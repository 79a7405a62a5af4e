"""Sparse weights: zeros in the encoder's linears, with the other weights corrected for them. It saves size, not time.

SparseGPT (Frantar and Alistarh 2023, arXiv 2301.00774, algorithm 1): column by column, the columns to the right compensate for a
removed weight, by the inverse of the inputs' Gram matrix.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from compress.editing.layerwise import LayerInputs, captured_inputs, first_layer_inputs
from compress.models.device import Batch
from compress.models.layers import Layer, encoder_layers
from compress.models.sharing import all_owners, spans
from compress.models.types import TransformersModel

SIZE_ONLY_WARNING = (
    "sparse weights make the compressed file smaller and nothing faster: dense runtimes (ONNX Runtime, PyTorch, OpenVINO) compute "
    "zeros like other numbers"
)
Pattern = Literal["unstructured", "2:4"]
BLOCK = 128  # columns between which masks are chosen
DAMPING = 0.01  # of the mean diagonal, added to the Gram matrix
GROUP = 4  # of the 2:4 pattern


@torch.no_grad()
def sparsify(
    model: TransformersModel, batches: Sequence[Batch], pattern: Pattern, sparsity: float = 0.5, advance: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Zero a share of the weights of every layer's linears, in place, going up the layers.

    Args:
        model: a model with its head in evaluation mode, dense or pruned, on the CPU.
        batches: calibration inputs; padding is ignored.
        pattern: `unstructured`: the share `sparsity` of each block of 128 columns, in each row; `2:4`: two of every four
            neighbours in a row.
        sparsity: share of zeros of the unstructured pattern.
        advance: called after each layer.

    Returns:
        The share of zeros by the role of the linear.
    """
    stream = first_layer_inputs(model, batches)
    counts: dict[str, list[int]] = {}  # zeros and weights by role
    owners, layers = all_owners(model), list(encoder_layers(model))
    for span in spans(owners):
        for owner, grams in _grams(stream, layers, owners, span).items():
            for gram, linears in zip(grams, _by_input(layers[owner]), strict=True):
                for role, linear in linears:
                    if linear.weight.numel():
                        linear.weight.copy_(sparse_weight(linear.weight, gram, pattern, sparsity))
                    zeros = counts.setdefault(role, [0, 0])
                    zeros[0] += int((linear.weight == 0).sum())
                    zeros[1] += linear.weight.numel()
        for layer in span:
            for number in range(len(stream.states)):
                stream.advance(layers[layer], number)
            advance()
    return {role: zeros / max(1, total) for role, (zeros, total) in counts.items()}


def _grams(stream: LayerInputs, layers: Sequence[Layer], owners: Sequence[int], span: range) -> dict[int, list[torch.Tensor]]:
    """Return X'X of the inputs of the linears, in the order of `_by_input`, by owner: the sums over all layers with its weights."""
    start, found = (list(stream.states), list(stream.kept)), {}
    for position in span:
        layer, groups = layers[position], _by_input(layers[position])
        sizes = [linears[0][1].in_features for linears in groups]
        grams = found.setdefault(owners[position], [torch.zeros(size, size, dtype=torch.float64) for size in sizes])
        for number, kept in enumerate(list(stream.kept)):
            with captured_inputs(*(linears[0][1] for linears in groups)) as seen:
                stream.advance(layer, number)
            for gram, rows in zip(grams, seen, strict=True):
                tokens = rows[kept].float()
                gram += (tokens.T @ tokens).double().cpu()
    stream.states[:], stream.kept[:] = start
    return found


def _by_input(layer: Layer) -> list[list[tuple[str, nn.Linear]]]:
    """Return a layer's linears, grouped by their input."""
    attention = [(role, linear) for role in ("query", "key", "value") if (linear := getattr(layer, role)) is not None]
    ffn = [("ffn_in", layer.ffn_in), *([("ffn_gate", layer.ffn_gate)] if layer.ffn_gate is not None else [])]
    others = [[("attention_output", layer.attention_output)], ffn, [("ffn_out", layer.ffn_out)]]
    return [attention, *others] if attention else others


def sparse_weight(weight: torch.Tensor, gram: torch.Tensor, pattern: Pattern, sparsity: float) -> torch.Tensor:
    """Return a sparse copy of a weight (outputs, inputs), the remaining values corrected for the zeros.

    Args:
        weight: of a linear.
        gram: X'X of its inputs, (inputs, inputs) float64.
        pattern: which weights may be removed.
        sparsity: share of zeros of the unstructured pattern.
    """
    work = weight.detach().double().cpu().clone()
    width = work.shape[1]
    damped = gram + (DAMPING * gram.diagonal().mean().clamp_min(1e-12)) * torch.eye(width, dtype=torch.float64)
    factor = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    removed = torch.zeros_like(work, dtype=torch.bool)
    step = GROUP if pattern == "2:4" else BLOCK
    for column in range(width):
        if column % step == 0:
            removed[:, column : column + step] = _cheapest(work[:, column : column + step], factor, column, pattern, sparsity)
        removed_weights = torch.where(removed[:, column], work[:, column], 0.0)
        work[:, column:] -= torch.outer(removed_weights / factor[column, column], factor[column, column:])
    return torch.where(removed, 0.0, work).float()


def _cheapest(part: torch.Tensor, factor: torch.Tensor, start: int, pattern: Pattern, sparsity: float) -> torch.Tensor:
    """Return which weights of some columns to remove: in each row those of least w^2 / (diagonal of the factor of H^-1)^2."""
    count = part.shape[1]
    cost = part.square() / factor.diagonal()[start : start + count].square()
    number = min(count // 2, GROUP // 2) if pattern == "2:4" else round(sparsity * count)
    return torch.zeros_like(part, dtype=torch.bool).scatter_(1, cost.argsort(dim=1, stable=True)[:, :number], True)


def zipped_bytes(model: TransformersModel) -> int:
    """Return the size of the encoder layers' weights as float32, compressed by zlib (level 6)."""
    linears = [linear for layer in encoder_layers(model) for group in _by_input(layer) for _, linear in group]
    return sum(len(zlib.compress(linear.weight.detach().cpu().numpy().tobytes(), 6)) for linear in linears)
