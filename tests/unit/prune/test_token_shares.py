"""`prune --tokens`: units are cut and refitted in a model that drops tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import UsageError
from compress.editing.layerwise import first_layer_inputs
from compress.editing.reconstruction import DenseTargets, reconstruct
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.models.shape import LayerShape, Shape
from compress.models.token_reduction import kept_tokens_by_layer, set_token_shares
from compress.prune import plan_targets
from compress.prune.costs import counted_costs
from compress.prune.search import Kept, solve
from compress.prune.surgery import slice_model
from compress.settings import PruneSettings
from tests import tiny
from tests.unit.models.edge_batches import calibration
from tests.unit.models.folders import save
from tests.unit.prune.fakes import Maker, context_of, fake_cost_model, run

SHARES = [0.8, 0.6, 0.5]
DENSE = Shape(32, 8, (LayerShape(4, 64),) * 3)


def reduced_shape(shares: list[float]) -> Shape:
    return Shape(32, 8, tuple(LayerShape(4, 64, tokens=share) for share in shares))


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_the_target_is_reached_with_fewer_tokens(tiny_task: dict[str, Any], checkpoint: Maker, family: str, tmp_path: Path) -> None:
    result = run(checkpoint(family), tiny_task, tmp_path / "out", target_flops=0.5, tokens="0.8,0.6,0.5")
    shape = model_shape(load_model(tmp_path / "out"))
    assert [layer["tokens"] for layer in result["layers"]] == [layer.tokens for layer in shape.layers] == SHARES
    assert shape.flops(result["target"]["seq_len"]) == result["flops"] <= 0.5 * result["flops_before"]
    more = run(checkpoint(family), tiny_task, tmp_path / "all", target_flops=0.5)
    assert sum(layer["ffn"] for layer in result["layers"]) > sum(layer["ffn"] for layer in more["layers"])


def test_a_plan_knows_the_tokens(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.5, tokens="1,0.5,0.5")
    (entry,) = plan_targets(context, fake_cost_model(context))["plans"]
    assert [layer.get("tokens", 1) for layer in entry["layers"]] == [1, 0.5, 0.5]
    assert entry["flops_kept"] <= 0.5


@pytest.mark.parametrize(("value", "message"), [("0.5", "has 1 shares, and the model 3 layers")])
def test_shares_of_another_number_of_layers_are_refused(tiny_task: dict[str, Any], checkpoint: Maker, value: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        context_of(checkpoint(), tiny_task, target_flops=0.5, tokens=value)


@pytest.mark.parametrize("value", ["half", "0.5,0.8", "0,0", "1.2,1", ""])
def test_malformed_shares_are_refused(value: str) -> None:
    with pytest.raises((UsageError, ValueError), match="should be off, auto, or falling shares"):
        PruneSettings(**{"target_flops": 0.5, "tokens": value})


@pytest.mark.parametrize(("value", "read"), [(False, "off"), ([1, 0.7], "1,0.7"), ("auto", "auto")], ids=str)
def test_shares_are_read_from_yaml(value: Any, read: str) -> None:
    assert PruneSettings(**{"target_flops": 0.5, "tokens": value}).tokens == read


def test_costs_of_a_shape_are_its_flops() -> None:
    costs = counted_costs(DENSE, "flops", 100)
    for shares in ([1.0, 1.0, 1.0], [1.0, 0.5, 0.5], [0.7, 0.4, 0.1]):
        assert costs.total(reduced_shape(shares)) == reduced_shape(shares).flops(100)
    assert costs.total(DENSE) == DENSE.flops(100) > 2 * costs.total(reduced_shape([0.3, 0.2, 0.1]))


def test_layers_that_see_fewer_tokens_are_cheaper_to_keep(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.5)
    from compress.prune.scoring import rank_units

    ranked = rank_units(context, context.starting_model())
    costs = counted_costs(DENSE, "flops", 100)
    budget = 0.4 * costs.total(DENSE)
    kept, with_fewer = (solve(ranked, part, budget) for part in (costs, costs.with_token_shares([1.0, 0.3, 0.3])))
    units = [sum(len(layer.neurons) for layer in part) for part in (kept, with_fewer)]
    assert units[1] > units[0]


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "modernbert", "deberta-v2"])
def test_layers_one_by_one_drop_the_tokens_that_the_whole_model_drops(family: str) -> None:
    model = tiny.make_model(family)
    set_token_shares(model, SHARES)
    batches = calibration(family, model)
    inputs = first_layer_inputs(model, batches)
    with torch.no_grad():
        for number, batch in enumerate(batches):
            model(**batch)
            expected = kept_tokens_by_layer(model)
            assert expected is not None
            inputs.kept[number] = inputs.masks[number]
            for position, layer in enumerate(encoder_layers(model), 1):
                assert torch.equal(inputs.kept_after(layer, number), expected[position])
                inputs.advance(layer, number)
    assert int(expected[-1].sum()) < int(batches[-1]["attention_mask"].sum())


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_refits_come_nearer_to_the_dense_model(family: str) -> None:
    dense, model = tiny.make_model(family), tiny.make_model(family)
    set_token_shares(model, SHARES)
    slice_model(model, [Kept([0, 1, 2], list(range(40))), Kept([1, 2], list(range(30))), Kept([0, 1, 3], list(range(0, 64, 2)))])
    data = tiny.encoded(family, 96)
    batches = calibration(family, dense, 96)
    expected = np.asarray(run_batches(torch_forward(dense), data))
    before = np.abs(np.asarray(run_batches(torch_forward(model), data)) - expected).mean()
    errors = reconstruct(model, DenseTargets(dense, batches))
    after = np.abs(np.asarray(run_batches(torch_forward(model), data)) - expected).mean()
    assert after < before
    assert all(layer["ffn_after"] <= layer["ffn_before"] for layer in errors)


def test_models_for_tokens_are_refused(tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "tags", target="tags", labels=[*tiny.LABELS, "other"])
    with pytest.raises(UsageError, match="it predicts something for every token"):
        context_of(source, tiny.write_kind(tmp_path, "tags"), target_flops=0.5, tokens="1,1,0.5")


def test_the_width_of_a_model_that_drops_tokens_stays(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    model = tiny.make_model()
    set_token_shares(model, SHARES)
    save(model, tmp_path / "fewer")
    with pytest.raises(UsageError, match="does not support models that drop tokens"):
        context_of(tmp_path / "fewer", tiny_task, target_flops=0.5, method="hidden")
