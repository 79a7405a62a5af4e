"""`prune --tokens auto`: which schedules are tried, and which one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.models.checkpoint import load_model
from compress.models.model_shape import model_shape
from compress.prune import plan_targets
from compress.prune import token_schedules as module
from compress.prune.costs import counted_costs
from compress.prune.scoring import rank_units
from compress.prune.token_schedules import TokenShares, divergence, drop_tokens, schedules, units_loss
from tests import tiny
from tests.unit.prune.fakes import Maker, context_of, fake_cost_model, run

ALL = (1.0,) * tiny.LAYERS


@pytest.mark.parametrize("layers", [1, 2, 3, 6, 12, 24])
def test_schedules_fall_and_differ(layers: int) -> None:
    found = schedules(layers)
    assert len(set(found)) == len(found)
    for shares in found:
        assert len(shares) == layers
        assert list(shares) == sorted(shares, reverse=True)
        assert shares[-1] in module.LAST_SHARES


def test_fewer_tokens_leave_more_for_units(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.5, tokens="auto")
    ranked = rank_units(context, context.starting_model())
    costs = counted_costs(context.dense.shape, "flops", 100)
    budget = 0.5 * costs.total(context.dense.shape)
    tried = (ALL, (1.0, 0.7, 0.5), (0.5, 0.3, 0.1))
    losses = [loss for shares in tried if (loss := units_loss(ranked, costs.with_token_shares(shares), budget)) is not None]
    assert losses[0] > losses[1] > losses[2] >= 0
    assert units_loss(ranked, costs, 1e-3 * budget) is None


@pytest.mark.parametrize("wanted", [ALL, schedules(tiny.LAYERS)[0], schedules(tiny.LAYERS)[-1]], ids=str)
def test_the_schedule_that_loses_least_with_its_units_is_taken(
    tiny_task: dict[str, Any], checkpoint: Maker, wanted: TokenShares, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.5, tokens="auto")
    model = context.starting_model()
    ranked = rank_units(context, model)
    costs = counted_costs(context.dense.shape, "flops", 100)

    def losses(_: object, __: object, tried: Sequence[TokenShares]) -> dict[TokenShares, float]:
        return {shares: 0.0 if shares == wanted else 1e6 for shares in tried}

    monkeypatch.setattr(module, "_divergences", losses)
    drop_tokens(context, model, ranked, costs, 0.5 * costs.total(context.dense.shape))
    assert tuple(layer.tokens for layer in model_shape(model).layers) == wanted


def test_a_model_never_gets_tokens_back(tiny_task: dict[str, Any], checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.5, tokens="1,0.6,0.5")
    model, tried = context.starting_model(), []
    monkeypatch.setattr(module, "_divergences", lambda _, __, shares: tried.extend(shares) or dict.fromkeys(shares, 0.0))
    costs = counted_costs(context.dense.shape, "flops", 100)
    drop_tokens(context, model, rank_units(context, model), costs, 0.3 * costs.total(context.dense.shape))
    assert tried[0] == (1.0, 0.6, 0.5)
    assert all(new <= old for shares in tried for new, old in zip(shares, tried[0], strict=True))


def test_schedules_are_tried_on_texts(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.5, tokens="auto")
    found = module._divergences(context, context.starting_model(), [ALL, (0.8, 0.7, 0.6), (0.2, 0.1, 0.1)])
    assert found[ALL] == pytest.approx(0, abs=1e-6)
    assert 0 < found[(0.8, 0.7, 0.6)] < found[(0.2, 0.1, 0.1)]


def test_the_target_is_reached(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_flops=0.4, tokens="auto", seq_len=100)
    assert result["flops"] <= 0.4 * result["flops_before"]
    assert [layer.get("tokens", 1.0) for layer in result["layers"]] == [
        layer.tokens for layer in model_shape(load_model(tmp_path / "out")).layers
    ]
    assert "tokens" in result["layers"][-1]


def test_a_plan_searches_tokens_too(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.3, tokens="auto", seq_len=100)
    (entry,) = plan_targets(context, fake_cost_model(context))["plans"]
    assert entry["flops_kept"] <= 0.3
    assert any("tokens" in layer for layer in entry["layers"])


@pytest.mark.parametrize("target", ["class", "labels", "value", "vector"])
def test_divergence_is_least_for_equal_predictions(target: Any) -> None:
    torch.manual_seed(0)
    logits, other = torch.randn(4, 3), torch.randn(4, 3)
    assert divergence(logits, logits, target) < divergence(other, logits, target)
