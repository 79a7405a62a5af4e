"""Models as they are in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from compress.models.build import arrange, build_model
from compress.models.layers import encoder_layers
from compress.models.sharing import owners_of
from tests import tiny


def config(**changes: Any) -> Any:
    return transformers.AlbertConfig(**{**tiny.CONFIGS["albert"], "vocab_size": 50, **changes})


@pytest.mark.parametrize(
    ("changes", "owners"), [({}, (0, 0, 0)), ({"num_hidden_groups": 3}, ()), ({"num_hidden_layers": 2, "inner_group_num": 2}, (0, 1, 0, 1))]
)
def test_every_use_of_a_layer_is_a_layer(changes: dict[str, Any], owners: tuple[int, ...]) -> None:
    model = build_model(transformers.AlbertForSequenceClassification, config(**changes))
    assert owners_of(model) == owners
    assert all(layer.module.config is model.config for layer in encoder_layers(model))


@pytest.mark.parametrize("name", ["AlbertModel", "AlbertForTokenClassification", "AlbertForMaskedLM"])
def test_the_forward_function_stays(name: str) -> None:
    model = getattr(transformers, name)(config(num_hidden_layers=5, num_hidden_groups=2)).eval()
    batch = {"input_ids": torch.arange(5, 20)[None]}
    with torch.no_grad():
        before = model(**batch)[0]
        arrange(model)
        torch.testing.assert_close(model(**batch)[0], before, rtol=0, atol=0)
