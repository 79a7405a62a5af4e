"""Keys of `config.json`: what changes predictions is refused, what is unknown is named, what is harmless is silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.models import config_keys
from compress.models.config import read_config
from tests import tiny
from tests.unit.models.folders import refused

Maker = Callable[..., Path]
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
    ("electra", {"position_embedding_type": "relative_key_query"}, "position_embedding_type"),
    ("bert", {"hidden_act": "mish"}, "hidden_act 'mish'"),
    ("bert", {"hidden_act": {"a": 1}}, "hidden_act"),
    ("distilbert", {"activation": "quick_gelu"}, "activation 'quick_gelu'"),
    ("bert", {"is_decoder": True}, "decoder"),
    ("bert", {"add_cross_attention": True}, "decoder"),
    ("bert", {"is_encoder_decoder": True}, "decoder"),
    ("bert", {"pruned_heads": {"0": [1]}}, "pruned_heads"),
    ("bert", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config"),
    ("bert", {"problem_type": "ranking"}, "problem_type 'ranking'"),
    ("bert", {"problem_type": "regression"}, "a regression of 3 values"),
    ("bert", {"num_labels": 5}, "num_labels is 5 and id2label names 3"),
    ("bert", {"id2label": {"1": "a", "2": "b", "3": "c"}}, "from 0 to 2"),
    ("mpnet", {"relative_attention_num_buckets": 16}, "relative_attention_num_buckets"),
    ("bert", {"architectures": "BertForSequenceClassification"}, "architectures"),
]


@pytest.mark.parametrize(("family", "changes", "told"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_changes_predictions_is_refused(own_checkpoint: Maker, family: str, changes: dict[str, Any], told: str) -> None:
    assert told in refused(tiny.edit_config(own_checkpoint(family), **changes)).message


def test_an_unknown_key_is_named_once(own_checkpoint: Maker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_keys, "_warned", set())
    folder = tiny.edit_config(own_checkpoint(), use_rotary=True, classifier_pooling="mean")
    read_config(folder)
    read_config(folder)
    told = capsys.readouterr().err
    assert told.count("does not know 'use_rotary', 'classifier_pooling'") == 1


def test_known_keys_are_silent(own_checkpoint: Maker, family: str, capsys: pytest.CaptureFixture[str]) -> None:
    read_config(
        tiny.edit_config(own_checkpoint(family), finetuning_task="sst-2", torchscript=True, use_cache=True, chunk_size_feed_forward=0)
    )
    assert "does not know" not in capsys.readouterr().err


@pytest.mark.parametrize("activation", ["gelu_python", "gelu_fast", "gelu_python_tanh", "silu", "sigmoid"])
def test_activations_with_a_graph(activation: str) -> None:
    import numpy as np
    import onnxruntime

    from compress.export.graph import build_graph
    from compress.inference.forward import torch_forward
    from compress.inference.onnx_session import session_forward

    model, batch = tiny.make_model(hidden_act=activation), tiny.encoded().batch(range(4))
    session = onnxruntime.InferenceSession(build_graph(model).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session_forward(session)(batch), torch_forward(model)(batch), atol=1e-4)


def test_a_stray_key_of_another_family_is_not_followed() -> None:
    from compress.models.layers import activation_name

    assert activation_name(tiny.make_model("distilbert", hidden_act="relu")) == "gelu"
