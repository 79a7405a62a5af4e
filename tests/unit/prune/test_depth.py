"""The order in which layers are dropped, against brute force."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from compress.editing.encoder_layers import keep_layers
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from compress.models.task_loss import logits_of
from compress.prune.depth import drop_order
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

CPU = torch.device("cpu")
PRUNED = [Kept([0, 3], [1, 5, 63]), Kept([], [2]), Kept([1], [])]
BATCHES = [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9, 10, 11]]


def loss_of(model: Any, family: str, positions: list[int]) -> torch.Tensor:
    """Return the summed cross-entropy of examples."""
    data = tiny.encoded(family, 12, pairs=True)
    logits = logits_of(model(**to_tensors(data.batch(positions), model, CPU)))
    return functional.cross_entropy(logits, torch.from_numpy(data.labels)[positions], reduction="sum")


def order_of(model: Any, family: str, **options: Any) -> list[tuple[int, float]]:
    """Return the order in which a model's layers are dropped."""
    return drop_order(model, BATCHES, lambda positions: loss_of(model, family, positions), **options)


def loss_with(model: Any, family: str, kept: list[int]) -> float:
    """Return the loss of a copy that is really cut."""
    smaller = copy.deepcopy(model)
    keep_layers(smaller, kept)
    with torch.no_grad():
        return sum(float(loss_of(smaller, family, positions)) for positions in BATCHES)


@pytest.mark.parametrize("pruned", [False, True])
def test_each_drop_is_the_best_that_is_left(family: str, pruned: bool) -> None:
    """Brute force: every layer that could be dropped next, by a model that is really cut."""
    model = tiny.make_model(family, num_hidden_layers=4)  # DistilBERT knows this name too
    if pruned:
        slice_model(model, [*PRUNED, Kept([0, 1], [3])])
    left = [0, 1, 2, 3]
    found = order_of(model, family)
    assert len(found) == 3
    for dropped, loss in found:
        trials = {number: loss_with(model, family, [other for other in left if other != number]) for number in left}
        assert loss == pytest.approx(trials[dropped], rel=1e-5)
        assert trials[dropped] == pytest.approx(min(trials.values()), rel=1e-5)
        left.remove(dropped)


def test_the_model_is_left_as_it_was(family: str) -> None:
    model = tiny.make_model(family)
    before, stack = copy.deepcopy(model.state_dict()), [layer.module for layer in encoder_layers(model)]
    calls: list[int] = []
    assert len(order_of(model, family, least=2, advance=lambda: calls.append(1))) == len(calls) == 1
    assert [layer.module for layer in encoder_layers(model)] == stack
    assert not any(module._forward_hooks for module in stack)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_failing_loss_leaves_the_model_as_it_was() -> None:
    model = tiny.make_model()
    stack = [layer.module for layer in encoder_layers(model)]
    with pytest.raises(ZeroDivisionError):
        drop_order(model, [1, 0], lambda batch: torch.tensor(1 / batch) + loss_of(model, "bert", [0]))
    assert [layer.module for layer in encoder_layers(model)] == stack
    assert not any(module._forward_hooks for module in stack)


def test_a_layer_that_does_nothing_goes_first() -> None:
    """A layer whose LayerNorms hand on what they are given: it must follow another LayerNorm of gain 1 for that."""
    model = tiny.make_model()
    slice_model(model, [Kept([0, 1, 2, 3], list(range(tiny.FFN))), Kept([], []), Kept([0, 1, 2, 3], list(range(tiny.FFN)))])
    first, idle, _ = encoder_layers(model)
    with torch.no_grad():
        for norm in (first.output_norm, idle.attention_norm, idle.output_norm):
            norm.weight.fill_(1)
            norm.bias.zero_()
        for linear in (idle.attention_output, idle.ffn_out):
            linear.bias.zero_()
        whole = sum(float(loss_of(model, "bert", positions)) for positions in BATCHES)
    changes = {number: abs(loss_with(model, "bert", [other for other in range(3) if other != number]) - whole) for number in range(3)}
    assert changes[1] < 1e-3 < min(changes[0], changes[2])
    scored = drop_order(
        model, BATCHES, lambda positions: (loss_of(model, "bert", positions) - loss_of_whole(model, positions)).square(), least=2
    )
    assert scored[0][0] == 1


def loss_of_whole(model: Any, positions: list[int]) -> torch.Tensor:
    """Return the loss of the untouched twin of a model, made once."""
    if not hasattr(loss_of_whole, "twin"):
        loss_of_whole.twin = copy.deepcopy(model)  # pyright: ignore[reportFunctionMemberAccess]
    return loss_of(loss_of_whole.twin, "bert", positions)  # pyright: ignore[reportFunctionMemberAccess]
