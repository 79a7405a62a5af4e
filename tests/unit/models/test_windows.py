"""Windows in PyTorch: by blocks in long texts, the numbers of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from compress.inference.forward import torch_forward
from compress.models import windows
from compress.models.checkpoint import load_model
from tests import tiny
from tests.unit.models.edge_batches import assert_same, calibration


@pytest.fixture
def long_texts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every text is a long one; the lengths of those that are computed by blocks."""
    lengths: list[int] = []
    by_blocks = windows._by_blocks

    def counted(query: torch.Tensor, *others: Any) -> torch.Tensor:
        lengths.append(query.shape[2])
        return by_blocks(query, *others)

    monkeypatch.setattr(windows, "_by_blocks", counted)
    monkeypatch.setattr(windows, "LONG_TEXT", 1)
    return lengths


@pytest.mark.parametrize("window", [3, 8, 64])
def test_blocks_compute_what_transformers_does(window: int, long_texts: list[int], tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path, "modernbert", target="tags", local_attention=window)
    plain: Any = transformers.ModernBertForTokenClassification.from_pretrained(tmp_path).eval()
    model = load_model(tmp_path)
    assert plain.config._attn_implementation == "sdpa"
    assert_same("modernbert", torch_forward(plain), torch_forward(model))
    assert tiny.POSITIONS in long_texts


def test_gradients_are_the_same(long_texts: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for longest in (1, 1 << 20):
        monkeypatch.setattr(windows, "LONG_TEXT", longest)
        model = tiny.make_model("modernbert")
        (batch,) = calibration("modernbert", model, 4)
        model(**batch).logits.square().sum().backward()
        gradients.append(model.model.layers[1].attn.Wqkv.key.weight.grad)
    assert long_texts
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_short_texts_and_other_families_are_left_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_by_blocks", None)
    torch_forward(tiny.make_model("modernbert"))(tiny.encoded("modernbert").batch(range(4)))
    assert tiny.make_model("bert").config._attn_implementation == "sdpa"
