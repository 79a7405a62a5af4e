"""Low-rank updates: what they compute, and that merging keeps the logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.core.errors import Diverged, ModelError, UsageError
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.layers import encoder_layers
from compress.models.sharing import owners_of
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.training.lora import add_lora, merge_lora
from tests import tiny

KEPT = [Kept([0, 3], [1, 2]), Kept([], []), Kept([1], [3])]


def randomise(model: Any) -> None:
    """Give A and B random values: B starts at zero."""
    torch.manual_seed(4)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)


def predictor(model: Any, family: str) -> Callable[[], np.ndarray]:
    """Return a function that runs the model on tiny texts."""
    batch = tiny.encoded(family).batch(range(8))
    return lambda: torch_forward(model)(batch)


@pytest.mark.parametrize("pruned", [False, True])
def test_a_merged_model_saved_and_reloaded_keeps_its_logits(family: str, pruned: bool, tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source", family)
    model = load_model(source)
    if pruned:
        slice_model(model, KEPT)
    plain, names = predictor(model, family)(), set(model.state_dict())
    wrapper = add_lora(model, "class", 4, 8.0)
    np.testing.assert_array_equal(predictor(model, family)(), plain)  # the initial update is zero
    randomise(model)
    updated = predictor(model, family)()
    assert np.abs(updated - plain).max() > 0.01
    merge_lora(wrapper, predictor(model, family))
    assert set(model.state_dict()) == names
    (tmp_path / "out").mkdir()
    save_model(model, tmp_path / "out", source)
    np.testing.assert_allclose(predictor(load_model(tmp_path / "out"), family)(), updated, atol=1e-4)


def test_the_update_is_alpha_over_rank_times_b_a(family: str) -> None:
    model = tiny.make_model(family)
    before = [[linear.weight.detach().clone() for linear in (layer.query, layer.key, layer.value)] for layer in encoder_layers(model)]  # pyright: ignore[reportOptionalMemberAccess]
    wrapper = add_lora(model, "class", 3, 12.0)
    randomise(model)
    updates = [
        [4.0 * (linear.lora_B["default"].weight @ linear.lora_A["default"].weight).detach() for linear in (layer.query, layer.value)]  # pyright: ignore[reportOptionalMemberAccess, reportIndexIssue, reportAttributeAccessIssue]
        for layer in encoder_layers(model)
    ]
    merge_lora(wrapper, lambda: np.zeros(1))
    for layer, (query, key, value), (first, second) in zip(encoder_layers(model), before, updates, strict=True):
        assert layer.query is not None
        assert layer.key is not None
        assert layer.value is not None
        torch.testing.assert_close(layer.query.weight, query + first)
        torch.testing.assert_close(layer.value.weight, value + second)
        assert torch.equal(layer.key.weight, key)


def test_a_merge_that_changes_the_logits_is_refused() -> None:
    model = tiny.make_model()
    wrapper = add_lora(model, "class", 4, 8.0)
    logits = iter([np.zeros(3), np.array([0.0, 0.0, 0.1])])
    with pytest.raises(ModelError, match=r"differ by up to 1\.0e-01"):
        merge_lora(wrapper, lambda: next(logits))


def test_an_update_that_is_not_finite_is_refused() -> None:
    model = tiny.make_model()
    wrapper = add_lora(model, "class", 4, 8.0)
    randomise(model)
    next(parameter for name, parameter in model.named_parameters() if "lora_A" in name).data[0, 0] = torch.inf
    with pytest.raises(Diverged, match="cannot be merged"):
        merge_lora(wrapper, lambda: np.zeros(1))


def test_a_model_without_heads_has_nothing_to_update() -> None:
    model = tiny.make_model()
    slice_model(model, [Kept([], [1])] * tiny.LAYERS)
    with pytest.raises(UsageError, match="no layer of this model has heads"):
        add_lora(model, "class", 4, 8.0)


def test_layers_that_share_weights_share_their_update(tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "source", "albert")
    model = load_model(source)
    wrapper = add_lora(model, "class", 4, 8.0)
    randomise(model)
    assert owners_of(model) == (0, 0, 0)
    updated = predictor(model, "albert")()
    merge_lora(wrapper, predictor(model, "albert"))
    assert owners_of(model) == (0, 0, 0)
    (tmp_path / "out").mkdir()
    save_model(model, tmp_path / "out", source)
    assert "compress" not in (tmp_path / "out" / "config.json").read_text()
    np.testing.assert_allclose(predictor(load_model(tmp_path / "out"), "albert")(), updated, atol=1e-4)
