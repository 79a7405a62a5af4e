"""Loading through transformers: no pickles, no code, enough memory, finite weights in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compress.core.errors import ResourceError
from compress.models.checkpoint import load_model
from tests import tiny
from tests.unit.models.folders import refused

Maker = Callable[..., Path]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(own_checkpoint: Maker, value: float) -> None:
    from safetensors.torch import load_file, save_file

    folder = own_checkpoint()
    state = load_file(folder / "model.safetensors")
    state["bert.encoder.layer.1.output.dense.weight"][3, 4] = value
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    error = refused(folder)
    assert "not finite" in error.message
    assert "layer.1.output.dense.weight" in error.message


def test_a_model_larger_than_memory_is_refused(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    with pytest.raises(ResourceError, match="memory") as caught:
        load_model(checkpoint())
    assert caught.value.exit_code == 5


def test_half_precision_weights_load_as_float32(own_checkpoint: Maker) -> None:
    from safetensors.torch import load_file, save_file

    folder = own_checkpoint()
    state = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    tiny.edit_config(folder, dtype="float16")
    assert {parameter.dtype for parameter in load_model(folder).parameters()} == {torch.float32}


def test_loading_reads_no_pickles_and_runs_no_code(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    seen: dict[str, Any] = {}
    original = transformers.BertForSequenceClassification.from_pretrained

    def spy(*args: Any, **kwargs: Any) -> Any:
        seen.update(kwargs)
        return original(*args, **kwargs)

    monkeypatch.setattr(transformers.BertForSequenceClassification, "from_pretrained", spy)
    load_model(checkpoint())
    assert seen["use_safetensors"] is True
    assert seen["trust_remote_code"] is False
    assert seen["local_files_only"] is True
