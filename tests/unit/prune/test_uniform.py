"""Equal widths: the search against brute force, and what plain transformers makes of the result."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from compress.core.errors import UsageError
from compress.models.checkpoint import load_model
from compress.models.model_shape import model_shape
from compress.models.shape import LayerShape, Shape
from compress.prune import plan_targets, structured
from compress.prune.context import PruneContext
from compress.prune.costs import Costs, counted_costs
from compress.prune.ranking import LayerRanking, Ranking
from compress.prune.uniform import REMOVED, check_plain, least_plain, solve_uniform
from compress.settings import PruneSettings
from tests import tiny
from tests.conftest import FAMILIES
from tests.pairwise import pairwise
from tests.unit.prune.fakes import Maker, context_of, fake_cost_model, rough_costs, run

HEADS, NEURONS, LAYERS = 2, 64, 4


def drawn(rng: np.random.Generator) -> list[LayerRanking]:
    def ranking(units: int) -> Ranking:
        loss = np.concatenate([np.sort(rng.random(units) ** rng.uniform(0.2, 5) * rng.random())[::-1], [0.0]])
        return Ranking(rng.permutation(units), loss)

    return [LayerRanking(ranking(HEADS), ranking(NEURONS)) for _ in range(LAYERS)]


@pytest.mark.parametrize(("seed", "first_token", "share"), pairwise(range(5), [True, False], [0.45, 0.6, 0.8]))
def test_the_least_loss_of_all(seed: int, first_token: bool, share: float) -> None:
    rng = np.random.default_rng(seed)
    ranked = drawn(rng)
    table = [np.sort(rng.random(units + 1)) for units in (HEADS, NEURONS)]
    last = (0.3 * table[0], 0.2 * table[1]) if first_token else None
    costs = Costs(*table, 0.1, last)

    def cost(count: int, width: int) -> float:
        return costs.total(Shape(8, 4, (LayerShape(HEADS, width),) * count))

    budget = share * cost(LAYERS, NEURONS)
    least = np.inf
    for count in range(1, LAYERS + 1):
        for stay in combinations(range(LAYERS), count):
            for width in range(16, NEURONS + 1, 16):
                if cost(count, width) <= budget:
                    lost = [r.neurons.loss[width] if n in stay else r.heads.loss[0] + r.neurons.loss[0] for n, r in enumerate(ranked)]
                    least = min(least, sum(lost))
    kept = solve_uniform(ranked, costs, budget)
    widths = {len(layer.neurons) for layer in kept if layer is not REMOVED}
    assert len(widths) == 1
    assert all(layer.heads == list(range(HEADS)) for layer in kept if layer is not REMOVED)
    assert cost(sum(layer is not REMOVED for layer in kept), *widths) <= budget
    found = sum(r.neurons.loss[len(k.neurons)] + r.heads.loss[len(k.heads)] for r, k in zip(ranked, kept, strict=True))
    assert found == pytest.approx(least)


def test_nothing_fits() -> None:
    costs = Costs(np.arange(HEADS + 1.0), np.arange(NEURONS + 1.0))
    with pytest.raises(UsageError, match="not one whole layer"):
        solve_uniform(drawn(np.random.default_rng(0)), costs, 3.0)


def test_a_share_of_the_layers_is_not_missed_by_rounding() -> None:
    """Where neurons are dear to lose and layers cheap, k of n whole layers cost k / n, whatever a product of shares makes of it."""
    cheap, dear = (
        Ranking(np.arange(HEADS), np.array([1.0, 1.0, 0.0])),
        Ranking(np.arange(NEURONS), np.repeat([1e-3, 9.0, 0.0], [1, NEURONS - 1, 1])),
    )
    costs = counted_costs(Shape(8, 4, (LayerShape(HEADS, NEURONS),) * 6), "flops", 20)
    whole = costs.total(Shape(8, 4, (LayerShape(HEADS, NEURONS),) * 6))
    for count in range(1, 7):
        kept = solve_uniform([LayerRanking(cheap, dear)] * 6, costs, count / 6 * whole * (1 - 1e-15))
        assert [len(layer.neurons) for layer in kept if layer != REMOVED] == [NEURONS] * count


def test_the_least_plain_shape_is_the_last_that_is_found() -> None:
    rng = np.random.default_rng(0)
    dense = Shape(8, 4, (LayerShape(HEADS, NEURONS),) * LAYERS)
    table = [np.cumsum(rng.random(units + 1)) for units in (HEADS, NEURONS)]
    costs = Costs(*table, 0.1, (0.3 * table[0], 0.2 * table[1]))
    least = costs.total(least_plain(dense))
    assert [layer != REMOVED for layer in solve_uniform(drawn(rng), costs, least)].count(True) == 1
    with pytest.raises(UsageError, match="not one whole layer"):
        solve_uniform(drawn(rng), costs, 0.999 * least)


def same_logits(folder: Path, plain: Any) -> None:
    """Compare a model of plain transformers with what the package loads from the same folder."""
    family = plain.config.model_type
    batch = {name: torch.from_numpy(array) for name, array in tiny.encoded(family).batch(range(4)).items()}
    if family == "distilbert":
        batch.pop("token_type_ids", None)
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(**batch).logits, load_model(folder)(**batch).logits)


@pytest.mark.parametrize(("family", "share"), zip(FAMILIES, cycle([0.7, 0.3])))
def test_plain_transformers_loads_it(tiny_task: dict[str, Any], checkpoint: Maker, family: str, share: float, tmp_path: Path) -> None:
    result = run(checkpoint(family), tiny_task, tmp_path / "out", target_flops=share, uniform=True)
    assert result["flops"] <= share * result["flops_before"]
    assert len({layer["ffn"] for layer in result["layers"]}) == 1
    assert {layer["heads"] for layer in result["layers"]} == {tiny.HEADS}
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    depth, width = ("n_layers", "hidden_dim") if family == "distilbert" else ("num_hidden_layers", "intermediate_size")
    assert (config[depth], config[width]) == (len(result["layers"]), result["layers"][0]["ffn"])
    assert "compress" not in config
    plain, report = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    same_logits(tmp_path / "out", plain)


def test_plain_transformers_loads_a_tagger(tmp_path: Path) -> None:
    """One that computes every token in its last layer."""
    task = tiny.write_kind(tmp_path / "task", "tags")
    source = tiny.write_checkpoint(tmp_path / "model", "bert", labels=["animal", "colour", "food", "other"], target="tags")
    run(source, task, tmp_path / "out", target_params=0.4, uniform=True)
    same_logits(tmp_path / "out", transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "out"))


def is_plain(folder: Path) -> bool:
    """Tell whether config.json alone says the shape."""
    shape = model_shape(load_model(folder))
    return "compress" not in json.loads((folder / "config.json").read_text(encoding="utf-8")) and shape.layers[0].ffn > 0


@pytest.mark.parametrize("method", ["obs", "fisher"])
def test_times_are_targets_too(tiny_task: dict[str, Any], checkpoint: Maker, method: str, tmp_path: Path) -> None:
    """Each model is the nearest to its target of those that the search can find: tiny ones come in few sizes."""
    options = {"uniform": True, "calib_samples": 24, "method": method}
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_speedup=[1.25, 2.1, 4.1], **options)
    for model in result["models"]:
        assert is_plain(tmp_path / "out" / model["folder"])
        assert model["measured_speedup"] == pytest.approx(model["target"]["time"], rel=0.05)
    dense = result["models"][0]["measured"]["latency_ms"] * result["models"][0]["measured_speedup"]
    result = run(checkpoint(), tiny_task, tmp_path / "ms", target_latency_ms=dense / 2.1, **options)
    assert result["measured"]["latency_ms"] == pytest.approx(dense / 2.1, rel=0.05)


def test_a_speedup_out_of_reach_is_refused_before_anything_is_scored(
    tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"uniform": True, "calib_samples": 24}
    dense = model_shape(tiny.make_model())
    costs = rough_costs(dense)
    limit = costs.total(dense) / costs.total(least_plain(dense))
    near = run(checkpoint(), tiny_task, tmp_path / "near", target_speedup=0.999 * limit, **options)  # the clock measures less
    assert near["layers"] == [{"heads": tiny.HEADS, "ffn": 16}]
    monkeypatch.setattr(structured, "rank_units", lambda *_: pytest.fail("it was scored first"))
    with pytest.raises(UsageError, match=r"out of reach: with one layer of 16 neurons"):
        run(checkpoint(), tiny_task, tmp_path / "far", target_speedup=1.001 * limit, **options)


def test_a_drop_is_a_target_too(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the accuracy is the kept share of the FLOPs, a drop of 70 points keeps three tenths of them at least."""
    dense = model_shape(tiny.make_model()).flops(20)
    monkeypatch.setattr(PruneContext, "validate", lambda self, model, *_: {"n": 1, "accuracy": model_shape(model).flops(20) / dense})
    result = run(checkpoint(), tiny_task, tmp_path / "out", max_drop=70.0, uniform=True, calib_samples=24, seq_len=20)
    assert is_plain(tmp_path / "out")
    assert 0.3 <= result["flops"] / dense < 0.7
    assert any(point["score"] < 0.3 for point in result["curve"])


def test_recovery_between_steps_keeps_it_plain(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    options = {"target_flops": 0.3, "uniform": True, "steps": 2, "calib_samples": 24, "recover_lr": 1e-3}
    run(checkpoint(), tiny_task, tmp_path / "out", recover="between", recover_epochs=2, **options)
    assert is_plain(tmp_path / "out")
    same_logits(tmp_path / "out", transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out"))


def test_a_plan_is_plain_too(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.3, uniform=True)
    shape = plan_targets(context, fake_cost_model(context))["plans"][0]
    assert 0 < shape["flops_kept"] <= 0.3
    assert all(layer == {"heads": tiny.HEADS, "ffn": shape["layers"][0]["ffn"]} for layer in shape["layers"])


def test_steps_refit_against_the_layers_that_stay(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    result = run(checkpoint(), tiny_task, tmp_path / "out", target_flops=0.25, uniform=True, steps=3)
    assert len(result["refits"]["layers"]) == len(result["layers"]) < tiny.LAYERS


def test_a_uniform_model_goes_on_and_another_is_refused(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    mild = run(checkpoint(), tiny_task, tmp_path / "mild", target_flops=0.8, uniform=True)
    again = run(tmp_path / "mild", tiny_task, tmp_path / "again", target_flops=0.8, uniform=True)
    assert again["flops"] <= 0.8 * mild["flops"]
    run(checkpoint(), tiny_task, tmp_path / "odd", target_flops=0.6)
    with pytest.raises(UsageError, match="equal layers"):
        run(tmp_path / "odd", tiny_task, tmp_path / "even", target_flops=0.8, uniform=True)


def test_a_model_without_neurons_is_no_plain_one() -> None:
    with pytest.raises(UsageError, match="equal layers"):
        check_plain(Shape(8, 4, (LayerShape(2, 0),) * 3), "model")


@pytest.mark.parametrize("method", ["taylor", "magnitude", "random", "layers", "hidden"])
def test_only_where_it_means_something(method: Any) -> None:
    with pytest.raises(ValueError, match=f"uniform goes with method obs or fisher, not {method}"):
        PruneSettings(target_flops=0.5, method=method, uniform=True)


@pytest.mark.parametrize(("once", "count"), [(False, 1), (True, 2)])
def test_uses_of_shared_layers_are_removed_as_a_whole(once: bool, count: int) -> None:
    """Their parameters count once, so that removing one of two uses spares none."""
    rng = np.random.default_rng(0)
    ranked = [replace(layer, owner=owner) for layer, owner in zip([drawn(rng)[0]] * 2, (None, 0), strict=True)]
    costs = replace(counted_costs(Shape(8, 4, (LayerShape(HEADS, NEURONS),) * 2), "flops", 20), once=once)
    kept = solve_uniform(ranked, costs, costs.total(Shape(8, 4, (LayerShape(HEADS, NEURONS),))))
    assert [layer != REMOVED for layer in kept] == [True] * count + [False] * (2 - count)
    assert len(kept[0].neurons) == NEURONS
