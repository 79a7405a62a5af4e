"""Exchanging the layers of an encoder for a while."""

from __future__ import annotations

import pytest
import torch

from compress.editing.encoder_layers import CachedOutput, replaced_layers
from compress.models.device import to_tensors
from compress.models.layers import layer_list
from tests import tiny

CPU = torch.device("cpu")


def test_layers_are_restored_even_after_an_error() -> None:
    layers = layer_list(tiny.make_model())
    before = list(layers)
    with pytest.raises(RuntimeError), replaced_layers(layers, before[:1]):
        assert list(layers) == before[:1]
        raise RuntimeError
    assert list(layers) == before


@torch.no_grad()
def test_a_cached_output_replaces_the_layers_below(family: str) -> None:
    """The first layer's output, cached, gives the logits of the whole model."""
    model = tiny.make_model(family)
    batch, layers = to_tensors(tiny.encoded(family).batch(range(4)), model, CPU), layer_list(model)
    outputs: list[object] = []
    hook = layers[0].register_forward_hook(lambda module, args, output: outputs.append(output))
    expected = model(**batch).logits
    hook.remove()
    with replaced_layers(layers, [CachedOutput(outputs[0]), *list(layers)[1:]]):
        torch.testing.assert_close(model(**batch).logits, expected)
