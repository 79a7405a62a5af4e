"""Forward functions of PyTorch models, checkpoints and artifacts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from compress.core.errors import ResourceError
from compress.export import write_artifact
from compress.export.graph import build_graph
from compress.inference.batches import run_batches
from compress.inference.forward import open_forward, torch_forward
from tests import tiny

Maker = Callable[..., Path]


def test_checkpoint_and_artifact_open_alike(checkpoint: Maker, family: str, tmp_path: Path) -> None:
    write_artifact(build_graph(tiny.make_model(family)), checkpoint(family), tmp_path)
    data = tiny.encoded(family, pairs=True)
    first, second = open_forward(checkpoint(family)), open_forward(tmp_path, threads=1)
    np.testing.assert_allclose(run_batches(first, data, 4), run_batches(second, data, 4), atol=1e-4)


def test_forward_keeps_no_gradients() -> None:
    model = tiny.make_model()
    logits = torch_forward(model)(tiny.encoded().batch([0]))
    assert logits.dtype == np.float32
    assert all(parameter.grad is None for parameter in model.parameters())


def test_cuda_without_a_gpu(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="--device cuda") as caught:
        open_forward(checkpoint(), "cuda")
    assert caught.value.exit_code == 5
    assert "compress doctor" in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["bert", "distilbert", "mpnet"])
def test_token_types_reach_only_families_that_have_them(name: str) -> None:
    batch = tiny.encoded(name, pairs=True).batch(range(4))
    first, second = (torch_forward(tiny.make_model(name))(part) for part in (batch, {**batch, "token_type_ids": batch["attention_mask"]}))
    assert (first == second).all() == (name != "bert")
