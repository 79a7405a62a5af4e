"""Rankings by the method of the settings."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.prune.scoring import counting, rank_units
from compress.prune.search import Kept
from compress.prune.surgery import columns, slice_model
from tests import tiny
from tests.unit.prune.fakes import Maker, context_of

METHODS = ("obs", "fisher", "taylor", "magnitude", "random")


@pytest.mark.parametrize("method", METHODS)
def test_every_unit_is_ranked_and_keeping_all_loses_nothing(tiny_task: dict[str, Any], checkpoint: Maker, method: str) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.5, method=method)
    model = copy.deepcopy(context.dense.model)
    slice_model(model, [Kept([0, 3], [1, 5, 63]), Kept([], [2]), Kept([1], [])])
    for ranking, shape in zip(rank_units(context, model), model_shape(model).layers, strict=True):
        for part, units in ((ranking.heads, shape.heads), (ranking.neurons, shape.ffn)):
            assert sorted(part.order.tolist()) == list(range(units))
            assert len(part.loss) == units + 1
            assert part.loss[-1] == 0
            assert (np.diff(part.loss) <= 1e-6 * max(1.0, part.loss[0])).all()


@pytest.mark.parametrize("method", ["obs", "fisher", "taylor", "magnitude"])
def test_a_unit_without_effect_is_the_last(tiny_task: dict[str, Any], checkpoint: Maker, method: str) -> None:
    import torch

    context = context_of(checkpoint(), tiny_task, target_flops=0.5, method=method)
    model = copy.deepcopy(context.dense.model)
    with torch.no_grad():
        for layer in encoder_layers(model):
            for linear in (layer.query, layer.key, layer.value):
                assert linear is not None
                linear.weight[columns([2], tiny.HEAD_SIZE)] = 0
            layer.attention_output.weight[:, columns([2], tiny.HEAD_SIZE)] = 0
            layer.ffn_in.weight[9] = 0
            layer.ffn_out.weight[:, 9] = 0
    for ranking in rank_units(context, model):
        assert ranking.heads.order[-1] == 2
        assert ranking.neurons.order[-1] == 9


def test_the_seed_decides_random_rankings(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    orders = []
    for seed in (0, 0, 1):
        context = context_of(checkpoint(), tiny_task, seed, target_flops=0.5, method="random")
        orders.append([ranking.neurons.order.tolist() for ranking in rank_units(context, copy.deepcopy(context.dense.model))])
    assert orders[0] == orders[1] != orders[2]


def test_batches_are_counted_when_they_are_done() -> None:
    done: list[int] = []
    seen = [(len(batch), len(done)) for batch in counting([np.arange(2), np.arange(3)], lambda: done.append(1))]
    assert (seen, len(done)) == ([(2, 0), (3, 1)], 2)
