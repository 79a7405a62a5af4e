"""The weighted SVD against closed forms: exact at full rank, its error the tail of the singular values, and never beaten."""

from __future__ import annotations

import pytest
import torch

from compress.factorize.statistics import Statistics
from compress.factorize.svd import RIDGE, WeightedSvd, factored_table

IN, OUT, TOKENS = 6, 4, 200


def problem(outputs: bool, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Statistics]:
    """Return a weight, inputs with a mean, and their statistics, of outputs too where these are weighed."""
    torch.manual_seed(seed)
    weight = torch.randn(OUT, IN)
    rows = torch.randn(TOKENS, IN) @ torch.randn(IN, IN) + torch.randn(IN)
    statistics = Statistics.empty(torch.nn.Linear(IN, OUT), outputs)
    slopes = torch.randn(TOKENS, OUT) @ torch.randn(OUT, OUT) if outputs else None
    for part in (slice(0, 70), slice(70, TOKENS)):
        statistics.add(rows[part], None if slopes is None else slopes[part])
    return weight, rows, statistics.close()


def error(weight: torch.Tensor, wanted: torch.Tensor, statistics: Statistics) -> float:
    """Half of tr(G D H D') with the ridges that the decomposition adds, D = weight - wanted."""
    difference, inputs = (weight - wanted).double(), statistics.centred()
    inputs = inputs + RIDGE * inputs.diagonal().mean() * torch.eye(IN)
    outputs = torch.eye(OUT).double()
    if statistics.outputs is not None:
        outputs = statistics.outputs.double()
        outputs = outputs + RIDGE * outputs.diagonal().mean() * torch.eye(OUT)
    return 0.5 * float((outputs @ difference @ inputs @ difference.T).trace())


@pytest.mark.parametrize("outputs", [False, True])
def test_the_full_rank_reproduces_the_weight(outputs: bool) -> None:
    weight, _, statistics = problem(outputs)
    up, down, gain = WeightedSvd(weight, statistics).factors(OUT)
    torch.testing.assert_close((up @ down).float(), weight, rtol=1e-5, atol=1e-5)
    assert gain.abs().max() < 1e-5


@pytest.mark.parametrize("outputs", [False, True])
@pytest.mark.parametrize("rank", range(1, OUT + 1))
def test_the_error_is_the_tail_of_the_singular_values(outputs: bool, rank: int) -> None:
    weight, _, statistics = problem(outputs)
    decomposed = WeightedSvd(weight, statistics)
    up, down, _ = decomposed.factors(rank)
    assert (up.shape, down.shape) == ((OUT, rank), (rank, IN))
    assert error(weight, up @ down, statistics) == pytest.approx(decomposed.losses[rank], rel=1e-6, abs=1e-9)
    assert decomposed.losses[rank] == pytest.approx(0.5 * float(decomposed.singular[rank:].square().sum()))


@pytest.mark.parametrize("outputs", [False, True])
def test_no_other_matrix_of_that_rank_is_better(outputs: bool) -> None:
    weight, _, statistics = problem(outputs)
    decomposed = WeightedSvd(weight, statistics)
    plain = WeightedSvd(weight)
    for rank in range(1, OUT):
        best = decomposed.losses[rank]
        up, down, _ = plain.factors(rank)
        assert error(weight, up @ down, statistics) > best
        own = decomposed.factors(rank)
        for scale in (1.0, 0.1, 1e-3):
            for _ in range(20):
                candidate = (own[0] + scale * torch.randn_like(own[0])) @ (own[1] + scale * torch.randn_like(own[1]))
                assert error(weight, candidate, statistics) >= best


def test_the_plain_svd_is_that_of_the_weight() -> None:
    weight = problem(False)[0]
    up, down, gain = WeightedSvd(weight).factors(2)
    u, s, vt = torch.linalg.svd(weight.double())
    torch.testing.assert_close(up @ down, (u[:, :2] * s[:2]) @ vt[:2])
    assert not gain.any()


def test_the_bias_keeps_the_mean_output() -> None:
    weight, rows, statistics = problem(False)
    up, down, gain = WeightedSvd(weight, statistics).factors(2)
    torch.testing.assert_close((rows.double() @ (up @ down).T + gain).mean(0), (rows.double() @ weight.double().T).mean(0))


def test_inputs_that_never_vary_are_no_trouble() -> None:
    weight = torch.randn(OUT, IN)
    statistics = Statistics.empty(torch.nn.Linear(IN, OUT), False)
    statistics.add(torch.zeros(10, IN))
    up, down, _ = WeightedSvd(weight, statistics).factors(OUT)
    torch.testing.assert_close((up @ down).float(), weight, rtol=1e-4, atol=1e-4)


def test_gradients_weigh_tokens() -> None:
    """A token without a gradient counts for nothing, one with twice the gradient four times."""
    rows, slopes = torch.randn(3, IN), torch.randn(3, OUT)
    slopes[1] = 0
    found = Statistics.empty(torch.nn.Linear(IN, OUT), True)
    found.add(rows, slopes)
    found.close()
    weights = slopes.square().sum(1)
    torch.testing.assert_close(found.gram.float(), (rows.T * weights) @ rows)
    torch.testing.assert_close(found.mean.float(), weights @ rows / weights.sum())
    assert found.outputs is not None
    torch.testing.assert_close(found.outputs, slopes.T @ slopes / weights.sum())


def weighted_error(table: torch.Tensor, found: torch.Tensor, counts: torch.Tensor) -> float:
    return float((counts.unsqueeze(1) * (table - found).square()).sum())


def test_a_table_is_best_where_words_are_frequent() -> None:
    torch.manual_seed(1)
    table, counts = torch.randn(30, 8).double(), torch.randint(1, 100, (30,)).double()
    errors = []
    for rank in range(1, 9):
        rows, project, bias = factored_table(table, counts, rank)
        errors.append(weighted_error(table, rows @ project.T + bias, counts))
        centred = (table - bias) * counts.sqrt().unsqueeze(1)
        assert errors[-1] == pytest.approx(float(torch.linalg.svdvals(centred)[rank:].square().sum()), abs=1e-8)
        alike = factored_table(table, torch.ones(30), rank)
        assert errors[-1] <= weighted_error(table, alike[0] @ alike[1].T + alike[2], counts) + 1e-9
    assert errors[-1] < 1e-18
    assert errors == sorted(errors, reverse=True)
