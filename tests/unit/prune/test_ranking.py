"""Rankings by scores, and by the block of the Fisher matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compress.prune.ranking import rank_additive, rank_by_fisher_block, rank_by_scores
from compress.prune.scores import LayerScores


def test_a_ranking_keeps_the_best_and_loses_the_rest() -> None:
    found = rank_additive(np.array([1.0, 3.0, 0.0, 3.0]))
    assert found.order.tolist() == [1, 3, 0, 2]  # ties by place
    assert found.loss.tolist() == [7, 4, 1, 0, 0]
    assert rank_additive(np.zeros(0)).loss.tolist() == [0]


def test_scores_of_a_layer_are_ranked_by_sublayer() -> None:
    (layer,) = rank_by_scores([LayerScores(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 1.0, 2.0]))])
    assert layer.heads.order.tolist() == [1, 0]
    assert layer.neurons.order.tolist() == [0, 2, 1]
    assert layer.neurons.loss.tolist() == [6, 3, 1, 0]


def test_units_that_cancel_go_together_and_those_that_add_up_do_not() -> None:
    """Two gates whose effects cancel on every example, two whose effects add up, one alone: by hand."""
    one = torch.tensor([1.0, -1.0, 1.0, -1.0])
    gradients = torch.stack([2 * one, -2 * one, 1.5 * one, 1.5 * one, 1.9 * one.abs()], dim=1)
    found = rank_by_fisher_block(gradients)
    own = {0: 16.0, 1: 16.0, 2: 9.0, 3: 9.0, 4: 14.44}
    # 2 goes first (least alone); then 0 or 1, whichever cancels it: 1.
    assert found.order.tolist()[::-1][:2] == [2, 1]
    assert found.loss[-1] == 0
    assert found.loss[-2] == pytest.approx((own[2] + own[2]) / 4)
    assert found.loss[-3] == pytest.approx(max(own[2] / 2, (4 * 0.25 + own[2] + own[1]) / 4))


@given(st.integers(0, 2**32 - 1))
def test_independent_units_rank_by_their_own_squares(seed: int) -> None:
    squares = np.random.default_rng(seed).permutation(8) + 1.0
    found = rank_by_fisher_block(torch.diag(torch.from_numpy(squares).sqrt().float()))
    assert found.order.tolist() == np.argsort(-squares).tolist()
    np.testing.assert_allclose(found.loss, rank_additive(squares).loss / 2, rtol=1e-5)


def test_layers_with_the_same_weights_divide_the_loss() -> None:
    scores = [LayerScores(torch.tensor([1.0, 2.0]), torch.tensor([4.0]))] * 3
    found = rank_by_scores(scores, (0, 1, 1))
    assert [layer.owner for layer in found] == [None, None, 1]
    assert [layer.heads.loss.tolist() for layer in found] == [[3, 1, 0], [1.5, 0.5, 0], [1.5, 0.5, 0]]
    assert all(layer.heads.order.tolist() == [1, 0] for layer in found)
