"""LayerNorms of a narrowed model, matched to the dense model's."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from compress.editing.layer_norms import hidden_norms, match_layer_norms
from compress.editing.width import narrow
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

CPU = torch.device("cpu")
HALF = [0, 2, 3, 5, 8, 9, 11, 13, 17, 18, 20, 22, 25, 28, 30, 31]
MOST = [number for number in range(tiny.HIDDEN) if number not in {1, 14, 15, 29}]
PRUNED = [Kept([0, 3], [1, 5, 63]), Kept([], [2]), Kept([1], [])]


def inputs(family: str, model: Any, seed: int) -> list[Any]:
    """Return three batches of single sentences."""
    data = tiny.encoded(family, 48, seed=seed)
    return [to_tensors(data.batch(range(start, start + 16)), model, CPU) for start in range(0, 48, 16)]


@pytest.mark.parametrize("pruned", [None, PRUNED], ids=["dense", "pruned"])
def test_outputs_come_closer_to_the_dense_models(family: str, pruned: list[Kept] | None) -> None:
    """On sentences that were not used for matching: hidden states of the kept dimensions in every model, logits in most."""
    ratios = []
    for seed in range(2):
        dense = tiny.make_model(family, seed=seed)
        if pruned:
            slice_model(dense, pruned)
        plain = copy.deepcopy(dense)
        narrow(plain, MOST)
        matched = copy.deepcopy(plain)
        match_layer_norms(dense, matched, MOST, inputs(family, dense, 1))

        def error(model: Any, wide: Any = dense) -> tuple[float, float]:
            states, logits = 0.0, 0.0
            with torch.no_grad():
                for batch in inputs(family, wide, 2):
                    mask = batch["attention_mask"].bool()
                    result, expected = (one(**batch, output_hidden_states=True) for one in (model, wide))
                    states += float((result.hidden_states[-1] - expected.hidden_states[-1][..., MOST])[mask].square().sum())
                    logits += float((result.logits - expected.logits).square().sum())
            return states, logits

        ratios.append(np.log(error(matched)) - np.log(error(plain)))
    states, logits = np.array(ratios).T
    assert states.max() < 0
    assert pruned or logits.mean() < 0  # of random layers without units the first token alone can lose


def test_means_and_deviations_match_and_nothing_else_changes(family: str) -> None:
    dense = tiny.make_model(family)
    model = copy.deepcopy(dense)
    narrow(model, HALF)
    before, batches = copy.deepcopy(model), inputs(family, dense, 1)
    stacks = [[layer.module for layer in encoder_layers(one)] for one in (dense, model)]
    calls: list[int] = []
    match_layer_norms(dense, model, HALF, batches, lambda: calls.append(1))
    assert len(calls) == tiny.LAYERS
    assert stacks == [[layer.module for layer in encoder_layers(one)] for one in (dense, model)]
    norms = {
        name
        for name, parameter in model.named_parameters()
        if any(parameter is one for norm in hidden_norms(model) for one in norm.parameters())
    }
    old = before.state_dict()
    assert {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, old[name])} == norms
    assert all(
        torch.equal(left.weight.sign(), right.weight.sign()) for left, right in zip(hidden_norms(model), hidden_norms(before), strict=True)
    )
    for wide, narrowed in zip(hidden_norms(dense)[-len(hidden_norms(model)) :], hidden_norms(model), strict=True):
        expected, result = outputs(dense, wide, batches)[:, HALF], outputs(model, narrowed, batches)
        torch.testing.assert_close(result.mean(0), expected.mean(0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(result.std(0), expected.std(0), rtol=1e-3, atol=1e-4)


def outputs(model: Any, module: Any, batches: list[Any]) -> torch.Tensor:
    """Return a module's outputs for every real token, (tokens, hidden)."""
    seen: list[torch.Tensor] = []
    hook = module.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        for batch in batches:
            model(**batch)
    hook.remove()
    return torch.cat([states[batch["attention_mask"].bool()] for states, batch in zip(seen, batches, strict=True)])


def test_a_model_without_losses_stays_the_same(family: str) -> None:
    dense, model = tiny.make_model(family), tiny.make_model(family)
    match_layer_norms(dense, model, list(range(tiny.HIDDEN)), inputs(family, dense, 1))
    torch.testing.assert_close(model.state_dict(), dense.state_dict(), rtol=1e-3, atol=1e-3)
