"""The knapsack of heads and neurons: exact against brute force, never over budget, aligned widths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.core.errors import UsageError
from compress.models.shape import LayerShape, Shape
from compress.prune.costs import ALIGNMENT, Costs
from compress.prune.ranking import LayerRanking, Ranking, rank_by_scores, rank_owners
from compress.prune.scores import LayerScores
from compress.prune.search import Kept, solve

CELLS = 4096


def line(unit: float, size: int) -> np.ndarray:
    """Costs of 0 to `size` units at so much each."""
    return unit * np.arange(size + 1, dtype=float)


def even(head: float, neuron: float, fixed: float = 0.0) -> Costs:
    """Costs in proportion to units, the same in every layer."""
    return Costs(line(head, 16), line(neuron, 64), fixed)


def vector(size: int) -> st.SearchStrategy[torch.Tensor]:
    """Draw scores of `size` units: spread out, or few values with many ties and zeros."""
    spread = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).exponential(size=size))
    tied = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, 3, size).astype(float))
    return (spread | tied).map(torch.from_numpy)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[LayerScores], Costs, float]:
    """Draw scores, costs and a budget."""
    layers = [
        LayerScores(draw(vector(draw(st.integers(0, 6)))), draw(vector(draw(st.sampled_from([0, 1, 15, 16, 17, 40])))))
        for _ in range(draw(st.integers(1, 4)))
    ]
    costs = even(draw(st.integers(1, 50)), draw(st.integers(1, 10)))
    return layers, costs, draw(st.floats(0, 1.1)) * costs.total(whole(layers))


def whole(layers: list[LayerScores]) -> Shape:
    """The shape of scored layers."""
    return Shape(32, 8, tuple(LayerShape(len(layer.heads), len(layer.neurons)) for layer in layers))


def shape_of(kept: list[Kept]) -> Shape:
    """The shape of kept units."""
    return Shape(32, 8, tuple(LayerShape(len(layer.heads), len(layer.neurons)) for layer in kept))


def solved(layers: list[LayerScores], costs: Costs, budget: float) -> list[Kept]:
    """Solve; nothing, where nothing fits."""
    try:
        return solve(rank_by_scores(layers), costs, budget)
    except UsageError:
        return [Kept([], [])] * len(layers)


@given(problems())
def test_kept_units_are_within_budget_real_the_best_and_aligned(problem: tuple[list[LayerScores], Costs, float]) -> None:
    layers, costs, budget = problem
    kept = solved(*problem)
    assert costs.total(shape_of(kept)) <= budget + 1e-9
    for layer, part in zip(layers, kept, strict=True):
        for units, scores in ((part.heads, layer.heads.tolist()), (part.neurons, layer.neurons.tolist())):
            assert units == sorted(set(units))
            inside = [scores[unit] for unit in units]
            outside = [score for unit, score in enumerate(scores) if unit not in set(units)]
            assert not inside or not outside or min(inside) >= max(outside)
        assert len(part.neurons) % ALIGNMENT == 0 or len(part.neurons) == len(layer.neurons)


@given(problems())
def test_selection_does_not_change_with_the_unit_of_cost_or_score(problem: tuple[list[LayerScores], Costs, float]) -> None:
    layers, costs, budget = problem
    scaled = [LayerScores(4 * layer.heads, 4 * layer.neurons) for layer in layers]
    larger = Costs(8 * costs.heads, 8 * costs.neurons)
    assert lost(layers, solved(scaled, larger, 8 * budget)) == pytest.approx(lost(layers, solved(*problem)))


def lost(layers: list[LayerScores], kept: list[Kept]) -> float:
    """The scores of what is not kept."""
    total = sum(float(layer.heads.sum() + layer.neurons.sum()) for layer in layers)
    return total - sum(
        float(layer.heads[part.heads].sum() + layer.neurons[part.neurons].sum()) for layer, part in zip(layers, kept, strict=True)
    )


@st.composite
def first_token_problems(draw: st.DrawFn) -> tuple[list[LayerScores], Costs, float]:
    """Draw up to three layers whose last sublayers cost less, and a budget."""
    layers = [
        LayerScores(draw(vector(draw(st.integers(1, 2)))), draw(vector(draw(st.sampled_from([0, 16, 32])))))
        for _ in range(draw(st.integers(1, 3)))
    ]
    costs = Costs(5 + line(7, 2), 5 + line(0.5, 32), 2.0, (line(3, 2), line(0.05, 32)))
    return layers, costs, draw(st.floats(0.1, 1)) * costs.total(whole(layers))


@given(first_token_problems())
def test_the_last_layer_that_mixes_is_searched_too(problem: tuple[list[LayerScores], Costs, float]) -> None:
    """By brute force over every shape: none within the budget loses less, but for the rounding of costs to cells."""
    layers, costs, budget = problem
    ranges = [
        range(len(part) + 1) if number % 2 == 0 else range(0, len(part) + 1, 16)
        for layer in layers
        for number, part in enumerate((layer.heads, layer.neurons))
    ]
    ranked_layers = rank_by_scores(layers)
    best = np.inf
    for counts in itertools.product(*ranges):
        shape = Shape(32, 8, tuple(LayerShape(counts[i], counts[i + 1]) for i in range(0, len(counts), 2)))
        if any(layer.heads for layer in shape.layers) and costs.total(shape) <= budget * (1 - 2 * len(layers) / CELLS):
            losses = (
                layer.heads.loss[size.heads] + layer.neurons.loss[size.ffn] for layer, size in zip(ranked_layers, shape.layers, strict=True)
            )
            best = min(best, sum(losses))
    try:
        kept = solve(ranked_layers, costs, budget)
    except UsageError:
        assert best == np.inf
        return
    assert costs.total(shape_of(kept)) <= budget + 1e-9
    assert lost(layers, kept) <= best + 1e-9


def test_by_hand() -> None:
    first = LayerScores(torch.tensor([5.0, 1.0]), torch.arange(32.0))
    second = LayerScores(torch.tensor([4.0, 9.0]), torch.zeros(20))
    # Worth: heads 9, 5, 4, 1 at 1; blocks 16..31 (376) and 0..15 (120) at 32, zeros.
    found = [solve(rank_by_scores([first, second]), even(1, 2), budget) for budget in (34.1, 35.1, 36.1, 67.1)]
    upper = list(range(16, 32))
    assert found[0] == [Kept([0], upper), Kept([1], [])]
    assert found[1] == [Kept([0], upper), Kept([0, 1], [])]
    assert found[2] == [Kept([0, 1], upper), Kept([0, 1], [])]
    assert found[3] == [Kept([0], list(range(32))), Kept([0, 1], [])]


@pytest.mark.parametrize("budget", [0, 0.9, -5])
def test_a_budget_for_nothing_is_a_usage_error(budget: float) -> None:
    with pytest.raises(UsageError, match="so small") as caught:
        solve(rank_by_scores([LayerScores(torch.ones(2), torch.ones(16))]), even(1, 1), budget)
    assert caught.value.exit_code == 2


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 1), st.booleans(), st.booleans())
def test_layers_that_share_weights_are_one_choice(seed: int, share: float, once: bool, first_token: bool) -> None:
    """By brute force over what each set of weights keeps: the losses and costs of all its layers are added."""
    rng = np.random.default_rng(seed)

    def ranking(units: int) -> Ranking:
        return Ranking(rng.permutation(units), np.append(np.sort(rng.random(units))[::-1], 0.0))

    owners = (0, 1, 0)
    ranked = rank_owners(owners, lambda owner: LayerRanking(ranking(2), ranking(16)))
    last = (line(3, 2), line(0.05, 16)) if first_token and not once else None
    costs = Costs(5 + line(7, 2), 5 + line(0.5, 16), 2.0, last, once)

    def shape(counts: tuple[int, ...]) -> Shape:
        sizes = LayerShape(*counts[:2]), LayerShape(*counts[2:])
        return Shape(32, 8, tuple(sizes[owner] for owner in owners), shared=owners)

    def loss(size: Shape) -> float:
        return sum(float(a.heads.loss[b.heads] + a.neurons.loss[b.ffn]) for a, b in zip(ranked, size.layers, strict=True))

    budget = share * costs.total(shape((2, 16, 2, 16)))
    choices = [shape(counts) for counts in itertools.product(range(3), (0, 16), range(3), (0, 16))]
    fitting = [each for each in choices if costs.total(each) <= budget * (1 - 6 / CELLS)]
    if first_token:  # a text classifier needs attention
        fitting = [each for each in fitting if any(layer.heads for layer in each.layers)]
    try:
        kept = solve(ranked, costs, budget)
    except UsageError:
        assert not any(layer.heads or layer.ffn for each in fitting for layer in each.layers)
        return
    found = shape((len(kept[0].heads), len(kept[0].neurons), len(kept[1].heads), len(kept[1].neurons)))
    assert kept[0] == kept[2]
    assert costs.total(found) <= budget + 1e-9
    assert loss(found) <= min((loss(each) for each in fitting), default=np.inf) + 1e-9
