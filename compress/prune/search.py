"""Which units to keep: the best score within a budget of FLOPs or parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from compress.errors import UsageError
from compress.model import shape as shapes
from compress.model.checkpoint import model_shape
from compress.prune.scores import LayerScores

TINY = 1e-12  # a cost that no division minds
STEP = 0.75  # of the cost is left by a step of pruning
ALIGNMENT = 16  # FFN widths are kept to multiples of this, where vector units are full


@dataclass(frozen=True)
class Kept:
    """The units that stay in a layer: ascending positions."""

    heads: list[int]
    neurons: list[int]


@dataclass(frozen=True)
class Costs:
    """What a model costs as a sum over its units: so much a head, a neuron, and so much whatever is kept.

    In FLOPs of a sequence, in parameters, or in time as a share of the dense model's.
    """

    head: float
    neuron: float
    fixed: float = 0.0

    def prunable(self, shape: shapes.Shape) -> float:
        """Return the cost of a shape's heads and neurons."""
        return sum(layer.heads * self.head + layer.ffn * self.neuron for layer in shape.layers)

    def total(self, shape: shapes.Shape) -> float:
        """Return the cost of a shape."""
        return self.fixed + self.prunable(shape)


def unit_costs(shape: shapes.Shape, count: Literal["flops", "params"], seq_len: int) -> Costs:
    """Return what one head and one neuron cost, in FLOPs of a sequence or in parameters."""
    if count == "flops":
        return Costs(shapes.head_flops(shape.hidden, shape.head_size, seq_len), shapes.neuron_flops(shape.hidden, seq_len))
    return Costs(shapes.head_params(shape.hidden, shape.head_size), shapes.neuron_params(shape.hidden))


def measured_costs(model: Any, share_of_time: Callable[[Any], float]) -> Costs:
    """Return unit costs in measured time, the dense model's being 1: two half models are timed in the runtime.

    Half of the heads away, or half of the neurons: a straight line through the dense model and each of these is what
    units cost where most of the search happens; what is left at zero units is fixed.

    Args:
        model: the dense model; it is not changed.
        share_of_time: times a model, as a share of the dense one's.
    """
    from compress.prune.surgery import slice_model

    shape = model_shape(model)
    heads, neurons = (sum(getattr(layer, part) for layer in shape.layers) for part in ("heads", "ffn"))

    def half(part: str) -> tuple[float, int]:
        smaller, gone = copy.deepcopy(model), 0
        kept = []
        for layer in shape.layers:
            count = {"heads": layer.heads, "ffn": layer.ffn}
            left = count[part] // 2 if part == "heads" else count[part] // 2 // ALIGNMENT * ALIGNMENT
            gone += count[part] - left
            count[part] = left
            kept.append(Kept(list(range(count["heads"])), list(range(count["ffn"]))))
        slice_model(smaller, kept)
        return max(1e-3, 1 - share_of_time(smaller)), gone

    (saved_heads, gone_heads), (saved_neurons, gone_neurons) = half("heads"), half("ffn")
    head = saved_heads / gone_heads if gone_heads else 0.0
    neuron = saved_neurons / gone_neurons if gone_neurons else 0.0
    total = heads * head + neurons * neuron
    scale = min(1.0, 0.99 / total) if total else 1.0  # what is fixed cannot be negative
    return Costs(scale * head, scale * neuron, 1 - scale * total)


def fitting_shares(share: float, steps: int | None) -> list[float]:
    """Return the shares of the cost kept after each step on the way to `share`: equal factors, about three quarters each.

    >>> [round(kept, 2) for kept in fitting_shares(0.25, None)]
    [0.76, 0.57, 0.44, 0.33, 0.25]
    """
    count = steps or max(1, math.ceil(math.log(share) / math.log(STEP) - 1e-9))
    return [share ** ((number + 1) / count) for number in range(count)]


def select(scores: Sequence[LayerScores], costs: Costs, budget: float) -> list[Kept]:
    """Keep units by descending score per cost until the budget is spent (the greedy solution of the knapsack).

    Neurons are taken in blocks of 16, best first within each layer, so that widths stay aligned; a layer's last
    block may be smaller where its width is no multiple of 16.

    Args:
        scores: one entry a layer.
        costs: of one head and one neuron, in the budget's unit.
        budget: what the kept units may cost together.

    Returns:
        The kept units of each layer; a layer may keep none.

    Raises:
        UsageError: not even one unit fits.
    """
    head_cost, neuron_cost = max(costs.head, TINY), max(costs.neuron, TINY)
    candidates: list[tuple[float, float, int, str, list[int]]] = []  # (score per cost, cost, layer, part, units)
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
    spent = 0.0
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
