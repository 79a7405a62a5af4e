"""Which tokens to drop: schedules of shares, tried on texts, next to the units that the search would remove.

The loss of dropping tokens is no sum over layers, so schedules are tried as a whole: falling geometrically to a last share, from one of a
few layers on. For each, the search finds the units that lose least within the budget at the costs of layers that see so many tokens; the
schedule whose own loss and the units' are least together is taken. Both are divergences from the dense model's predictions, of the units
to second order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from compress.core import console
from compress.core.errors import UsageError
from compress.data.input_spec import Target
from compress.distill.losses import logits_loss
from compress.models.model_shape import model_shape
from compress.models.task_loss import logits_of
from compress.models.token_reduction import set_token_shares
from compress.models.types import TransformersModel
from compress.prune.context import PruneContext
from compress.prune.costs import Costs
from compress.prune.ranking import LayerRanking
from compress.prune.scoring import scored_batches
from compress.prune.search import Kept, solve

LAST_SHARES = (0.75, 0.5, 0.35, 0.25, 0.15)
TRIED_TOKENS = 8_000  # of the texts that each schedule is tried on
TokenShares = tuple[float, ...]


def schedules(layers: int) -> list[TokenShares]:
    """Return the schedules to try: each falls geometrically from 1 before a layer to a share after the last one.

    >>> schedules(2)[:2]
    [(0.866, 0.75), (1.0, 0.75)]
    """
    result: list[TokenShares] = []
    for last in LAST_SHARES:
        for start in sorted({0, layers // 4, layers // 2}):
            steps = layers - start
            result.append((*(1.0 for _ in range(start)), *(round(last ** (step / steps), 3) for step in range(1, steps + 1))))
    return result


def drop_tokens(context: PruneContext, model: TransformersModel, ranked: Sequence[LayerRanking], costs: Costs, budget: float) -> None:
    """Give a model the schedule that loses least within a budget, in place; it may stay as it is. Leaves it on the CPU.

    Args:
        context: of the run.
        model: dense, or pruned so far.
        ranked: its units.
        costs: of all tokens.
        budget: the most that the model may cost, with fewer tokens and units.
    """
    current = tuple(layer.tokens for layer in model_shape(model).layers)
    tried = list(dict.fromkeys([current, *(tuple(map(min, shares, current)) for shares in schedules(len(current)))]))
    within = {shares: loss for shares in tried if (loss := units_loss(ranked, costs.with_token_shares(shares), budget)) is not None}
    if not within:
        return
    texts = len(np.concatenate(scored_batches(context, model)))  # that the units' losses are sums over
    losses = _divergences(context, model, list(dict.fromkeys([current, *within])))
    best = min(within, key=lambda shares: within[shares] + texts * (losses[shares] - losses[current]))
    set_token_shares(model, best)
    if best != current:
        console.info(f"  share of tokens after each layer: {' '.join(f'{share:g}' for share in best)}")


def units_loss(ranked: Sequence[LayerRanking], costs: Costs, budget: float) -> float | None:
    """Return the loss of the units that the search removes to keep within a budget; None if nothing would be left."""
    try:
        kept = solve(ranked, costs, budget)
    except UsageError:
        return None
    return float(sum(_loss(layer, units) for layer, units in zip(ranked, kept, strict=True)))


def _loss(layer: LayerRanking, units: Kept) -> float:
    return layer.heads.loss[len(units.heads)] + layer.neurons.loss[len(units.neurons)]


@torch.no_grad()
def _divergences(context: PruneContext, model: TransformersModel, tried: Sequence[TokenShares]) -> dict[TokenShares, float]:
    """Return the mean divergence of a text's prediction from the dense model's, by schedule."""
    calibration, dense = context.calibration, context.dense.model
    batches = calibration.batches(calibration.share_of(TRIED_TOKENS))
    dense.to(context.device)
    expected = [logits_of(dense(**calibration.inputs(batch, dense, context.device))).float() for batch in batches]
    dense.to("cpu")
    model.to(context.device)
    divergences: dict[TokenShares, float] = {}
    with console.progress("trying shares of tokens", len(tried)) as advance:
        for shares in tried:
            set_token_shares(model, shares)
            total = 0.0
            for batch, dense_logits in zip(batches, expected, strict=True):
                logits = logits_of(model(**calibration.inputs(batch, model, context.device))).float()
                total += len(batch) * divergence(logits, dense_logits, context.dense.target)
            divergences[shares] = total / sum(map(len, batches))
            advance()
    model.to("cpu")
    return divergences


def divergence(logits: torch.Tensor, expected: torch.Tensor, target: Target) -> float:
    """Return the mean divergence of a batch's predictions, in the unit of the task's loss, up to a constant.

    Args:
        logits: (batch, logits), or vectors.
        expected: of the dense model, the same shape.
        target: what they predict.
    """
    if target == "vector":
        return float((logits - expected).square().sum(1).mean())
    mask = logits.new_ones(len(logits), 1)
    return float(logits_loss(logits, expected, mask, mask, target, 1.0))
