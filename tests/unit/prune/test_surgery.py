"""Cutting and masking, tensor by tensor; the functions' equality is tested in test_family."""

from __future__ import annotations

import copy

import pytest
import torch

from compress.models.layers import encoder_layers
from compress.prune.search import Kept
from compress.prune.surgery import columns, mask_model, slice_model
from tests import tiny

KEPT = [Kept([0, 3], [1, 5, 63]), Kept([], [2]), Kept([1], [])]


@pytest.fixture(params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every family of the table, XLM-R and MPNet too."""
    return request.param


def test_columns_of_heads() -> None:
    assert columns([0, 2], 3) == [0, 1, 2, 6, 7, 8]
    assert columns([], 3) == []


def test_what_is_cut_are_the_rows_and_columns_of_the_units(family: str) -> None:
    dense, model = tiny.make_model(family), tiny.make_model(family)
    slice_model(model, KEPT)
    for kept, before, after in zip(KEPT, encoder_layers(dense), encoder_layers(model), strict=True):
        dimensions = columns(kept.heads, tiny.HEAD_SIZE)
        for part in ("query", "key", "value"):
            old, new = getattr(before, part), getattr(after, part)
            if kept.heads:
                assert torch.equal(new.weight, old.weight[dimensions])
                assert torch.equal(new.bias, old.bias[dimensions])
            else:
                assert new is None
        assert torch.equal(after.attention_output.weight, before.attention_output.weight[:, dimensions])
        assert torch.equal(after.ffn_in.weight, before.ffn_in.weight[kept.neurons])
        assert torch.equal(after.ffn_in.bias, before.ffn_in.bias[kept.neurons])
        assert torch.equal(after.ffn_out.weight, before.ffn_out.weight[:, kept.neurons])
        for part in ("attention_output", "ffn_out"):
            assert torch.equal(getattr(after, part).bias, getattr(before, part).bias)
        for part in ("attention_norm", "output_norm"):
            assert torch.equal(getattr(after, part).weight, getattr(before, part).weight)


def test_masking_zeroes_the_other_columns_only(family: str) -> None:
    dense, model = tiny.make_model(family), tiny.make_model(family)
    mask_model(model, KEPT)
    for kept, before, after in zip(KEPT, encoder_layers(dense), encoder_layers(model), strict=True):
        for part, units in (("attention_output", columns(kept.heads, tiny.HEAD_SIZE)), ("ffn_out", kept.neurons)):
            old, new = getattr(before, part).weight, getattr(after, part).weight
            gone = sorted(set(range(old.shape[1])) - set(units))
            assert torch.equal(new[:, units], old[:, units])
            assert not new[:, gone].any()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, dense.state_dict()[name])}
    assert len(changed) == 2 * tiny.LAYERS


def test_keeping_everything_changes_nothing(family: str) -> None:
    model = tiny.make_model(family)
    before = copy.deepcopy(model.state_dict())
    slice_model(model, [Kept(list(range(tiny.HEADS)), list(range(tiny.FFN)))] * tiny.LAYERS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not hasattr(model.config, "compress")


def test_a_shape_for_another_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        slice_model(tiny.make_model(), KEPT[:2])
