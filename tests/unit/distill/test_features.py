"""Hidden states and projections of a model."""

from __future__ import annotations

import pytest
import torch

from compress.distill.features import Feature, computed_tokens, feature_width, forward_with_features
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from compress.models.token_reduction import set_token_shares
from tests import tiny

FEATURES: list[Feature] = [("hidden", 0), ("hidden", 3), ("query", 1), ("value", 2)]


def test_features_have_their_widths_and_leave_the_logits(family: str) -> None:
    model = tiny.make_model(family)
    batch = to_tensors(tiny.encoded(family).batch(range(4)), model, torch.device("cpu"))
    with torch.no_grad():
        outputs, features = forward_with_features(model, batch, FEATURES)
        assert torch.equal(outputs.logits, model(**batch).logits)
    assert set(features) == set(FEATURES)
    for feature, states in features.items():
        assert states.shape == (*batch["input_ids"].shape, feature_width(model, feature))


def test_hooks_are_removed_after_an_error() -> None:
    model = tiny.make_model()
    with pytest.raises(ValueError, match="input_ids"):
        forward_with_features(model, {}, FEATURES)
    assert not any(layer.query._forward_hooks for layer in encoder_layers(model) if layer.query is not None)


def test_features_say_for_which_tokens_they_were_computed() -> None:
    model = tiny.make_model()
    batch = to_tensors(tiny.encoded().batch(range(4)), model, torch.device("cpu"))
    forward_with_features(model, batch, FEATURES)
    assert computed_tokens(model, FEATURES) == {}
    set_token_shares(model, [0.8, 0.6, 0.4])
    forward_with_features(model, batch, FEATURES)
    counts = {feature: int(mask.sum()) for feature, mask in computed_tokens(model, FEATURES).items()}
    tokens = int(batch["attention_mask"].sum())
    assert counts[("hidden", 0)] == counts[("query", 1)] == tokens > counts[("value", 2)] > counts[("hidden", 3)]
