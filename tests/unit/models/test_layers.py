"""The uniform view of every family's layers."""

from __future__ import annotations

from compress.models.family import FAMILIES
from compress.models.layers import PARTS, encoder_layers, find_submodule
from tests import tiny


def test_every_family_has_a_tiny_config_and_every_part() -> None:
    assert set(tiny.CONFIGS) == set(FAMILIES)
    for name, family in FAMILIES.items():
        model = tiny.make_model(name)
        layers = list(encoder_layers(model))
        assert len(layers) == tiny.LAYERS
        for layer in layers:
            assert all(getattr(layer, part) is not None for part in PARTS if getattr(family, part))
            assert layer.query is not None
            assert layer.query.weight.shape == (tiny.HIDDEN, tiny.HIDDEN)
            assert layer.ffn_in.weight.shape == (tiny.FFN, tiny.HIDDEN)
        assert type(model).__name__ == family.head_class("class")


def test_a_submodule_that_does_not_exist_is_none() -> None:
    model = tiny.make_model()
    assert find_submodule(model, "bert.encoder.layer") is model.bert.encoder.layer
    assert find_submodule(model, "bert.nothing.here") is None
