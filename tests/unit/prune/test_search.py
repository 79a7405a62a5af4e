"""The knapsack of heads and neurons: never over budget, in the order of worth, in aligned blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from compress.errors import UsageError
from compress.model.checkpoint import model_shape
from compress.model.shape import LayerShape, Shape
from compress.prune.scores import LayerScores
from compress.prune.search import ALIGNMENT, Costs, Kept, fitting_shares, measured_costs, select, unit_costs
from tests import tiny


def vector(size: int) -> st.SearchStrategy[torch.Tensor]:
    """Draw scores of `size` units: spread out, or few values with many ties and zeros."""
    spread = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).exponential(size=size))
    tied = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, 3, size).astype(float))
    return (spread | tied).map(torch.from_numpy)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[LayerScores], int, int, float]:
    """Draw scores, costs and a budget."""
    layers = [
        LayerScores(draw(vector(draw(st.integers(0, 6)))), draw(vector(draw(st.sampled_from([0, 1, 15, 16, 17, 40])))))
        for _ in range(draw(st.integers(1, 4)))
    ]
    head, neuron = draw(st.integers(1, 50)), draw(st.integers(1, 10))
    total = sum(len(layer.heads) * head + len(layer.neurons) * neuron for layer in layers)
    return layers, head, neuron, draw(st.floats(0, 1.1)) * total


def solve(problem: tuple[list[LayerScores], int, int, float]) -> list[Kept]:
    """Select; nothing, where nothing fits."""
    try:
        return select(problem[0], Costs(problem[1], problem[2]), problem[3])
    except UsageError:
        return [Kept([], [])] * len(problem[0])


def spent(kept: list[Kept], head: int, neuron: int) -> int:
    """Return what kept units cost."""
    return sum(len(layer.heads) * head + len(layer.neurons) * neuron for layer in kept)


@given(problems())
def test_kept_units_are_within_budget_real_the_best_and_aligned(problem: tuple[list[LayerScores], int, int, float]) -> None:
    kept = solve(problem)
    assert spent(kept, problem[1], problem[2]) <= problem[3]
    for layer, part in zip(problem[0], kept, strict=True):
        for units, scores in ((part.heads, layer.heads.tolist()), (part.neurons, layer.neurons.tolist())):
            assert units == sorted(set(units))
            assert all(0 <= unit < len(scores) for unit in units)
            inside = [scores[unit] for unit in units]
            outside = [score for unit, score in enumerate(scores) if unit not in set(units)]
            assert not inside or not outside or min(inside) >= max(outside)
        assert len(part.neurons) % ALIGNMENT == 0 or len(part.neurons) == len(layer.neurons)


@given(problems())
def test_everything_fits_its_own_cost(problem: tuple[list[LayerScores], int, int, float]) -> None:
    layers, head, neuron, _ = problem
    total = sum(len(layer.heads) * head + len(layer.neurons) * neuron for layer in layers)
    assume(total)
    kept = select(layers, Costs(head, neuron), total)
    assert [(len(layer.heads), len(layer.neurons)) for layer in kept] == [(len(layer.heads), len(layer.neurons)) for layer in layers]


@given(problems())
def test_selection_does_not_change_with_the_unit_of_cost_or_score(problem: tuple[list[LayerScores], int, int, float]) -> None:
    layers, head, neuron, budget = problem
    kept = solve(problem)
    scaled = [LayerScores(4 * layer.heads, 4 * layer.neurons) for layer in layers]
    assert solve((scaled, 8 * head, 8 * neuron, 8 * budget)) == kept


def blocks(layers: list[LayerScores], head: int, neuron: int) -> list[tuple[float, int]]:
    """Return (value, cost) of every head and every aligned block of neurons."""
    found = []
    for layer in layers:
        found += [(score, head) for score in layer.heads.tolist()]
        ranked = sorted(layer.neurons.tolist(), reverse=True)
        parts = [ranked[start : start + ALIGNMENT] for start in range(0, len(ranked), ALIGNMENT)]
        found += [(sum(part), neuron * len(part)) for part in parts]
    return found


def value(layers: list[LayerScores], kept: list[Kept]) -> float:
    """Return the score of what is kept."""
    return sum(float(layer.heads[part.heads].sum() + layer.neurons[part.neurons].sum()) for layer, part in zip(layers, kept, strict=True))


def best(items: list[tuple[float, int]], budget: float) -> float:
    """Return the best value within the budget, by trying every subset."""
    subsets = itertools.product((0, 1), repeat=len(items))
    chosen = ([item for item, take in zip(items, subset, strict=True) if take] for subset in subsets)
    return max(sum(worth for worth, _ in subset) for subset in chosen if sum(cost for _, cost in subset) <= budget)


@st.composite
def small_problems(draw: st.DrawFn, equal: bool) -> tuple[list[LayerScores], int, int, float]:
    """Draw two layers of up to nine items; `equal` makes a head cost what a block of neurons costs."""
    layers = [LayerScores(draw(vector(draw(st.integers(0, 2)))), draw(vector(draw(st.sampled_from([0, 16, 32]))))) for _ in range(2)]
    neuron = draw(st.integers(1, 4))
    head = ALIGNMENT * neuron if equal else draw(st.integers(1, 100))
    total = sum(cost for _, cost in blocks(layers, head, neuron))
    return layers, head, neuron, draw(st.floats(0, 1)) * total


@given(small_problems(equal=True))
def test_greedy_is_optimal_where_all_units_cost_the_same(problem: tuple[list[LayerScores], int, int, float]) -> None:
    kept = solve(problem)
    assert value(problem[0], kept) == pytest.approx(best(blocks(*problem[:3]), problem[3]))


@given(small_problems(equal=False))
def test_greedy_is_within_one_unit_of_the_optimum(problem: tuple[list[LayerScores], int, int, float]) -> None:
    """Dantzig's bound: the greedy value plus the best single unit is at least the optimum."""
    items = blocks(*problem[:3])
    assert value(problem[0], solve(problem)) + max((v for v, _ in items), default=0) >= best(items, problem[3]) - 1e-9


@given(small_problems(equal=True), st.floats(0, 1))
def test_a_larger_budget_keeps_what_a_smaller_kept(problem: tuple[list[LayerScores], int, int, float], share: float) -> None:
    layers, head, neuron, budget = problem
    small, large = solve((layers, head, neuron, share * budget)), solve(problem)
    for less, more in zip(small, large, strict=True):
        assert set(less.heads) <= set(more.heads)
        assert set(less.neurons) <= set(more.neurons)


def test_by_hand() -> None:
    first = LayerScores(torch.tensor([5.0, 1.0]), torch.arange(32.0))
    second = LayerScores(torch.tensor([4.0, 9.0]), torch.zeros(20))
    # Per cost: heads 9, 5, 4, 1; blocks 16..31 (376 / 32 = 11.75), 0..15 (120 / 32 = 3.75), zeros.
    assert select([first, second], Costs(1, 2), 34) == [Kept([0], list(range(16, 32))), Kept([1], [])]
    assert select([first, second], Costs(1, 2), 35) == [Kept([0], list(range(16, 32))), Kept([0, 1], [])]
    assert select([first, second], Costs(1, 2), 36) == [Kept([0, 1], list(range(16, 32))), Kept([0, 1], [])]
    assert select([first, second], Costs(1, 2), 67) == [Kept([0], list(range(32))), Kept([0, 1], [])]


def test_ties_are_settled_by_place() -> None:
    same = LayerScores(torch.ones(2), torch.zeros(0))
    assert select([same, same], Costs(1, 1), 3) == [Kept([0, 1], []), Kept([0], [])]


@pytest.mark.parametrize("budget", [0, 0.99, -5])
def test_a_budget_for_nothing_is_a_usage_error(budget: float) -> None:
    with pytest.raises(UsageError, match="so small") as caught:
        select([LayerScores(torch.ones(2), torch.ones(16))], Costs(1, 1), budget)
    assert caught.value.exit_code == 2


def test_unit_costs_add_up_to_the_shape() -> None:
    shape = Shape(32, 8, (LayerShape(4, 64), LayerShape(1, 7)))
    assert unit_costs(shape, "flops", 17).total(shape) == shape.flops(17)
    assert unit_costs(shape, "params", 17).total(shape) == shape.params() - 2 * 2 * 32  # the output biases stay


def test_steps_lead_to_the_share_by_equal_factors() -> None:
    assert fitting_shares(0.8, None) == [0.8]
    found = fitting_shares(0.1, None)
    assert found[-1] == pytest.approx(0.1)
    factors = np.array(found) / np.array([1.0, *found[:-1]])
    assert factors == pytest.approx(factors[0])
    assert 0.7 < factors[0] < 0.8
    assert fitting_shares(0.25, 2) == pytest.approx([0.5, 0.25])


def test_costs_in_time_are_what_units_save() -> None:
    """A clock by which a head takes 3, a neuron 0.1 and everything else 20: the line through it is found again."""
    model = tiny.make_model()
    dense = model_shape(model)
    ticks = Costs(3.0, 0.1, 20.0)
    found = measured_costs(model, lambda smaller: ticks.total(model_shape(smaller)) / ticks.total(dense))
    whole = ticks.total(dense)
    assert (found.head, found.neuron, found.fixed) == pytest.approx((3 / whole, 0.1 / whole, 20 / whole))
    assert found.total(dense) == pytest.approx(1)
    assert model_shape(model) == dense


def test_costs_never_leave_less_than_nothing_fixed() -> None:
    model = tiny.make_model()
    found = measured_costs(model, lambda smaller: 0.1)  # noise: halves that save nearly everything
    assert 0 < found.fixed <= 0.02
    assert found.total(model_shape(model)) == pytest.approx(1)
