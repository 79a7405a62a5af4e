"""Sizes of encoders, against counts made one by one."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from compress.models.layers import encoder_layers
from compress.models.model_shape import model_shape
from compress.models.shape import LayerShape, Shape
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

KEPT = [Kept([0, 3], [1, 2, 3]), Kept([], [5]), Kept([1], [])]


@pytest.mark.parametrize("pruned", [False, True])
def test_params_are_those_of_the_linears(family: str, pruned: bool) -> None:
    model = tiny.make_model(family)
    if pruned:
        slice_model(model, KEPT)
    counted = 0
    for layer in encoder_layers(model):
        for linear in (layer.query, layer.key, layer.value, layer.attention_output, layer.ffn_in, layer.ffn_out):
            counted += sum(parameter.numel() for parameter in linear.parameters()) if linear is not None else 0
    assert model_shape(model).params() == counted


@pytest.mark.parametrize("length", [1, 7, 32])
def test_flops_are_those_that_pytorch_counts(length: int) -> None:
    model = tiny.make_model()
    slice_model(model, [Kept([0, 3], [1, 2, 3]), Kept([1], [5]), Kept([1, 2, 3], [])])
    model.config._attn_implementation = "eager"
    with FlopCounterMode(display=False) as counter:
        model.bert.encoder(torch.zeros((1, length, tiny.HIDDEN)))
    assert model_shape(model).flops(length) == counter.get_total_flops()


def test_flops_of_a_published_shape() -> None:
    """BERT-base at 128 tokens: 22.4 GFLOPs less embeddings and pooler (Devlin et al.; 11.2 GMACs in most papers)."""
    base = Shape(768, 64, (LayerShape(12, 3072),) * 12)
    assert base.flops(128) == pytest.approx(22.4e9, rel=0.01)
    assert base.params() == 12 * (4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768)
