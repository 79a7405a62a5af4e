"""Scoring whole splits, and opening either kind of model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.core.errors import ResourceError
from compress.export import write_artifact
from compress.export.graph import build_graph
from compress.inference.scorer import open_model, score, torch_forward
from compress.models.checkpoint import load_model
from compress.models.device import pick_device
from tests import tiny

Maker = Callable[..., Path]


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_scores_come_in_the_order_of_the_data(batch_size: int) -> None:
    data = tiny.encoded("bert", 12)

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        return np.stack([batch["input_ids"].sum(axis=1), batch["attention_mask"].sum(axis=1)], axis=1).astype(np.float32)

    expected = [[ids.sum(), len(ids)] for ids in data.input_ids]  # the padding id is 0
    np.testing.assert_array_equal(score(forward, data, batch_size), expected)


def test_checkpoint_and_artifact_open_alike(checkpoint: Maker, family: str, tmp_path: Path) -> None:
    write_artifact(build_graph(load_model(checkpoint(family))), checkpoint(family), tmp_path)
    data = tiny.encoded(family, pairs=True)
    first, second = open_model(checkpoint(family)), open_model(tmp_path, threads=1)
    np.testing.assert_allclose(score(first, data, 4), score(second, data, 4), atol=1e-4)


def test_forward_keeps_no_gradients() -> None:
    model = tiny.make_model()
    logits = torch_forward(model)(tiny.encoded().batch([0]))
    assert logits.dtype == np.float32
    assert all(parameter.grad is None for parameter in model.parameters())


def test_cuda_without_a_gpu(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="--device cuda") as caught:
        open_model(checkpoint(), "cuda")
    assert caught.value.exit_code == 5
    assert "compress doctor" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("wanted", "has_gpu", "expected"), [("cpu", True, "cpu"), ("auto", True, "cuda"), ("auto", False, "cpu"), ("cuda", True, "cuda")]
)
def test_devices(wanted: str, has_gpu: bool, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert pick_device(wanted).type == expected
