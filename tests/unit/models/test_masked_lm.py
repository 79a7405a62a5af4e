"""Loading masked language models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from compress.core.errors import ModelError
from compress.models.masked_lm import load_masked_lm
from tests import tiny
from tests.unit.models.folders import write_pruned

Maker = Callable[..., Path]


def test_it_predicts_every_token(tmp_path: Path, family: str) -> None:
    model = load_masked_lm(tiny.write_masked_lm(tmp_path / "model", family))
    batch = tiny.encoded(family).batch(range(2))
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(batch["input_ids"]), attention_mask=torch.from_numpy(batch["attention_mask"])).logits
    assert logits.shape == (*batch["input_ids"].shape, model.config.vocab_size)
    assert not model.training


def test_other_models_are_refused(own_checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not a masked language model: it lacks the weight"):
        load_masked_lm(own_checkpoint())
    with pytest.raises(ModelError, match="is a pruned model, and this needs a masked language model"):
        load_masked_lm(write_pruned(tmp_path / "pruned"))
    (own_checkpoint() / "model.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="is an ONNX artifact, and this needs a masked language model"):
        load_masked_lm(own_checkpoint())
