"""Mode `adapter`: which parameters it adds and trains."""

from __future__ import annotations

import pytest

from compress.core.errors import UsageError
from compress.models.adapters import adapter_size
from compress.training.adapter import train_adapters
from tests import tiny


def test_adapters_norms_and_the_head_are_trained() -> None:
    model = tiny.make_model()
    train_adapters(model, "class", 4)
    assert adapter_size(model) == 4
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(any(part in name for part in ("adapter", "LayerNorm", "pooler", "classifier")) for name in trained)
    assert len([name for name in trained if "adapter" in name]) == tiny.LAYERS * 2 * 4  # two linears, each with a bias


def test_present_adapters_are_kept_and_another_size_is_refused() -> None:
    model = tiny.make_model()
    train_adapters(model, "class", 4)
    present = {id(parameter) for parameter in model.parameters()}
    train_adapters(model, "class", 4)
    assert {id(parameter) for parameter in model.parameters()} == present
    with pytest.raises(UsageError, match="already has adapters of size 4, not 8") as caught:
        train_adapters(model, "class", 8)
    assert "--adapter-size 4" in (caught.value.hint or "")
