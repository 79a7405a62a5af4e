"""Structured OBS against the quadratic problem that it solves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.models.sharing import all_owners, unshare_parameters
from compress.prune import obs
from compress.prune.obs import DAMPING, FLOOR, KroneckerFactors, remove_greedily
from tests import tiny


def problem(width: int, outputs: int = 5, seed: int = 0) -> tuple[torch.Tensor, KroneckerFactors]:
    """Draw weights (outputs, width) and factors of correlated inputs and outputs."""
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(200, width, generator=draw) @ torch.randn(width, width, generator=draw)
    slopes = torch.randn(200, outputs, generator=draw) @ torch.randn(outputs, outputs, generator=draw)
    return torch.randn(outputs, width, generator=draw), KroneckerFactors(inputs.T @ inputs, slopes.T @ slopes)


def least_loss(weight: torch.Tensor, factor: KroneckerFactors, gone: list[int]) -> float:
    """Half of tr(D' G D H), D = W - V, for the best V whose columns `gone` are zero: solved by least squares."""
    width = weight.shape[1]
    inputs = factor.inputs.double() + DAMPING * factor.inputs.diagonal().mean() * torch.eye(width)
    outputs = factor.outputs.double() + FLOOR * factor.outputs.diagonal().mean() * torch.eye(len(weight))
    kept = [column for column in range(width) if column not in gone]
    root = torch.linalg.cholesky(inputs)
    target = (weight.double() @ root).T  # rows of H^1/2
    best = torch.zeros_like(weight, dtype=torch.float64)
    if kept:
        best[:, kept] = torch.linalg.lstsq(root.T[:, kept], target).solution.T
    difference = weight.double() - best
    return 0.5 * float((difference.T @ outputs @ difference * inputs).sum())


@pytest.mark.parametrize(("unit", "at_once"), [(1, 1), (1, 4), (2, 1)])
def test_each_level_loses_what_the_best_correction_leaves(unit: int, at_once: int) -> None:
    """Whatever the order, keeping the first k units and correcting the others away costs the least-squares minimum."""
    weight, factor = problem(8)
    found = remove_greedily(weight, factor, unit, at_once)
    count = 8 // unit
    assert sorted(found.order.tolist()) == list(range(count))
    assert found.loss[count] == 0
    assert (np.diff(found.loss) <= 1e-6).all()
    for kept in range(0, count, at_once):
        gone = [unit * number + column for number in found.order[kept:].tolist() for column in range(unit)]
        assert found.loss[kept] == pytest.approx(least_loss(weight, factor, gone), rel=2e-3)


@pytest.mark.parametrize("unit", [1, 2])
def test_the_first_to_go_is_the_best_single_choice(unit: int) -> None:
    for seed in range(5):
        weight, factor = problem(6, seed=seed)
        losses = [least_loss(weight, factor, [unit * number + column for column in range(unit)]) for number in range(6 // unit)]
        assert remove_greedily(weight, factor, unit, 1).order[-1] == int(np.argmin(losses))


def test_a_unit_that_a_twin_can_replace_is_nearly_free() -> None:
    weight, factor = problem(6)
    inputs = factor.inputs.clone()
    inputs[1], inputs[:, 1] = inputs[0], inputs[:, 0].clone()
    inputs[1, 1] = inputs[0, 0]
    found = remove_greedily(weight, KroneckerFactors(inputs, factor.outputs), 1, 1)
    assert found.order[-1] in (0, 1)
    assert found.loss[5] < 0.2 * min(least_loss(weight, factor, [number]) for number in (0, 1))


def test_nothing_to_remove_is_an_empty_ranking() -> None:
    found = remove_greedily(torch.zeros(5, 0), KroneckerFactors(torch.zeros(0, 0), torch.eye(5)), 1, 16)
    assert (found.order.tolist(), found.loss.tolist()) == ([], [0.0])


def test_factors_are_sums_over_tokens_of_inputs_and_of_output_gradients(family: str) -> None:
    """Against gradients of the weights: the loss's gradient by an output projection's weight is sum g x'."""
    model, data = tiny.make_model(family), tiny.encoded(family, 12)
    positions = np.arange(12)

    def loss_of(batch: np.ndarray) -> torch.Tensor:
        logits = model(**to_tensors(data.batch(batch), model, torch.device("cpu"))).logits
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels[batch]), reduction="sum")

    whole, parts = obs.kronecker_factors(model, [positions], loss_of), obs.kronecker_factors(model, [positions[:5], positions[5:]], loss_of)
    for once, twice, layer in zip(whole, parts, encoder_layers(model), strict=True):
        for first, second, linear in zip(once, twice, (layer.attention_output, layer.ffn_out), strict=True):
            # Rows of padding count in neither: no gradient, and inputs of other texts' lengths; so compare outputs alone.
            torch.testing.assert_close(first.outputs, second.outputs, rtol=1e-3, atol=1e-6)
            loss = loss_of(positions)
            bias = torch.autograd.grad(loss, linear.bias)[0]
            assert float(first.outputs.diagonal().sum()) >= float(bias.square().sum()) / data.lengths.sum() * 0.99  # Cauchy-Schwarz


def test_every_layer_is_ranked(family: str) -> None:
    model, data = tiny.make_model(family), tiny.encoded(family, 12)

    def loss_of(batch: Any) -> torch.Tensor:
        return model(**to_tensors(data.batch(batch), model, torch.device("cpu"))).logits.logsumexp(1).sum()

    found = obs.rank_by_obs(model, obs.kronecker_factors(model, [np.arange(12)], loss_of))
    for ranking, shape in zip(found, model_shape(model).layers, strict=True):
        assert sorted(ranking.heads.order.tolist()) == list(range(shape.heads))
        assert sorted(ranking.neurons.order.tolist()) == list(range(shape.ffn))


def test_factors_of_shared_weights_are_sums_over_their_layers() -> None:
    shared, data = tiny.make_model("albert"), tiny.encoded("albert")
    apart = tiny.make_model("albert")
    unshare_parameters(apart, all_owners(apart))

    def factors(model: Any) -> Any:
        def loss(positions: Any) -> torch.Tensor:
            return model(**to_tensors(data.batch(positions), model, torch.device("cpu"))).logits.square().sum()

        return obs.kronecker_factors(model, [range(4), range(4, 8)], loss)

    together, each = factors(shared), factors(apart)
    for sublayer in range(2):
        total = sum(layer[sublayer].inputs for layer in each)
        torch.testing.assert_close(together[0][sublayer].inputs, total, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together[0][sublayer].outputs.trace(), torch.tensor(1.0))
        assert all(layer[sublayer] is together[0][sublayer] for layer in together)
    ranked = obs.rank_by_obs(shared, together)
    assert [layer.owner for layer in ranked] == [None, 0, 0]
