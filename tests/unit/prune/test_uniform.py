"""Equal widths: the search against brute force, and what plain transformers makes of the result."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from compress.errors import UsageError
from compress.model.checkpoint import load_model
from compress.model.shape import LayerShape, Shape
from compress.prune.search import Costs, LayerRanking, Ranking
from compress.prune.uniform import GONE, solve_uniform
from tests import tiny
from tests.unit.prune.test_prune import Maker, run

HEADS, NEURONS, LAYERS = 2, 64, 4


def drawn(rng: np.random.Generator) -> list[LayerRanking]:
    def ranking(units: int) -> Ranking:
        loss = np.concatenate([np.sort(rng.random(units) * rng.random())[::-1], [0.0]])
        return Ranking(rng.permutation(units), loss)

    return [LayerRanking(ranking(HEADS), ranking(NEURONS)) for _ in range(LAYERS)]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("first_token", [True, False])
def test_the_least_loss_of_all(seed: int, first_token: bool) -> None:
    rng = np.random.default_rng(seed)
    ranked = drawn(rng)
    table = [np.sort(rng.random(units + 1)) for units in (HEADS, NEURONS)]
    last = (0.3 * table[0], 0.2 * table[1]) if first_token else None
    costs = Costs(*table, 0.1, last)

    def cost(count: int, width: int) -> float:
        return costs.total(Shape(8, 4, (LayerShape(HEADS, width),) * count))

    budget = 0.6 * cost(LAYERS, NEURONS)
    least = np.inf
    for count in range(1, LAYERS + 1):
        for stay in combinations(range(LAYERS), count):
            for width in range(16, NEURONS + 1, 16):
                if cost(count, width) <= budget:
                    lost = [r.neurons.loss[width] if n in stay else r.heads.loss[0] + r.neurons.loss[0] for n, r in enumerate(ranked)]
                    least = min(least, sum(lost))
    kept = solve_uniform(ranked, costs, budget)
    widths = {len(layer.neurons) for layer in kept if layer is not GONE}
    assert len(widths) == 1
    assert all(layer.heads == list(range(HEADS)) for layer in kept if layer is not GONE)
    assert cost(sum(layer is not GONE for layer in kept), *widths) <= budget
    found = sum(r.neurons.loss[len(k.neurons)] + r.heads.loss[len(k.heads)] for r, k in zip(ranked, kept, strict=True))
    assert found == pytest.approx(least)


def test_nothing_fits() -> None:
    costs = Costs(np.arange(HEADS + 1.0), np.arange(NEURONS + 1.0))
    with pytest.raises(UsageError, match="not one whole layer"):
        solve_uniform(drawn(np.random.default_rng(0)), costs, 3.0)


@pytest.mark.parametrize("share", [0.7, 0.3])
def test_plain_transformers_loads_it(tiny_task: dict[str, Any], checkpoint: Maker, family: str, share: float, tmp_path: Path) -> None:
    result = run(checkpoint(family), tiny_task, tmp_path / "out", target_flops=share, uniform=True)
    assert result["flops"] <= share * result["flops_before"]
    assert len({layer["ffn"] for layer in result["layers"]}) == 1
    assert {layer["heads"] for layer in result["layers"]} == {tiny.HEADS}
    plain: Any = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert getattr(plain.config, "compress", None) is None
    batch = {name: torch.from_numpy(array) for name, array in tiny.encoded(family).batch(range(4)).items()}
    if family == "distilbert":
        batch.pop("token_type_ids", None)
    own = load_model(tmp_path / "out")
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(**batch).logits, own(**batch).logits)


def test_steps_refit_against_the_layers_that_stay(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_flops=0.25, uniform=True, steps=3)
    assert len(result["refits"]) == len(result["layers"]) < tiny.LAYERS


def test_a_uniform_model_goes_on_and_another_is_refused(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    mild = run(checkpoint(), tiny_task, tmp_path / "mild", target_flops=0.8, uniform=True)
    again = run(tmp_path / "mild", tiny_task, tmp_path / "again", target_flops=0.8, uniform=True)
    assert again["flops"] <= 0.8 * mild["flops"]
    run(checkpoint(), tiny_task, tmp_path / "odd", target_flops=0.6)
    with pytest.raises(UsageError, match="equal layers"):
        run(tmp_path / "odd", tiny_task, tmp_path / "even", target_flops=0.8, uniform=True)


def test_only_where_it_means_something() -> None:
    from compress.settings import PruneSettings

    with pytest.raises(ValueError, match="uniform"):
        PruneSettings(target_flops=0.5, method="magnitude", uniform=True)
