"""Which units to keep: the best score within a budget of FLOPs or parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from compress.errors import UsageError
from compress.model import shape as shapes
from compress.prune.scores import LayerScores

ALIGNMENT = 16  # FFN widths are kept to multiples of this, where vector units are full


@dataclass(frozen=True)
class Kept:
    """The units that stay in a layer: ascending positions."""

    heads: list[int]
    neurons: list[int]


def unit_costs(shape: shapes.Shape, count: Literal["flops", "params"], seq_len: int) -> tuple[int, int]:
    """Return what one head and one neuron cost, in FLOPs of a sequence or in parameters."""
    if count == "flops":
        return shapes.head_flops(shape.hidden, shape.head_size, seq_len), shapes.neuron_flops(shape.hidden, seq_len)
    return shapes.head_params(shape.hidden, shape.head_size), shapes.neuron_params(shape.hidden)


def select(scores: Sequence[LayerScores], head_cost: int, neuron_cost: int, budget: float) -> list[Kept]:
    """Keep units by descending score per cost until the budget is spent (the greedy solution of the knapsack).

    Neurons are taken in blocks of 16, best first within each layer, so that widths stay aligned; a layer's last
    block may be smaller where its width is no multiple of 16.

    Args:
        scores: one entry a layer.
        head_cost: cost of one head, in the budget's unit.
        neuron_cost: cost of one neuron.
        budget: what the kept units may cost together.

    Returns:
        The kept units of each layer; a layer may keep none.

    Raises:
        UsageError: not even one unit fits.
    """
    candidates: list[tuple[float, int, int, str, list[int]]] = []  # (score per cost, cost, layer, part, units)
    for number, layer in enumerate(scores):
        for head, score in enumerate(layer.heads.tolist()):
            candidates.append((score / head_cost, head_cost, number, "heads", [head]))
        ranked = torch.argsort(layer.neurons, descending=True, stable=True).tolist()
        for start in range(0, len(ranked), ALIGNMENT):
            block = ranked[start : start + ALIGNMENT]
            cost = neuron_cost * len(block)
            candidates.append((float(layer.neurons[block].sum()) / cost, cost, number, "neurons", block))
    candidates.sort(key=lambda candidate: (-candidate[0], candidate[2], candidate[3], candidate[4]))
    chosen: dict[tuple[int, str], list[int]] = {}
    spent = 0
    full: set[tuple[int, str]] = set()
    for _, cost, number, part, units in candidates:
        # Once a layer's block did not fit, its later (worse) blocks of the same part are skipped: widths stay ranked.
        if spent + cost > budget or (number, part) in full:
            full.add((number, part))
            continue
        spent += cost
        chosen.setdefault((number, part), []).extend(units)
    if not chosen:
        raise UsageError("the target is so small that nothing of the encoder would be left", "choose a larger target")
    return [Kept(sorted(chosen.get((number, "heads"), [])), sorted(chosen.get((number, "neurons"), []))) for number in range(len(scores))]
