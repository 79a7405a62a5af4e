"""Batches at the edges of what an encoder reads, and the comparison of forward functions on them, for families with blocks of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.export.attention import PLAIN, GraphForm
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.device import to_tensors
from compress.models.family import family_of
from compress.models.head import model_class
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny


def edge_batches(family: str) -> list[dict[str, np.ndarray]]:
    """Return batches of real tokens: of mixed lengths, one alone, with much padding, and of the longest text."""
    data = tiny.encoded(family)
    longest = {"input_ids": np.tile(np.arange(8, 72), (1, 2)), "attention_mask": np.ones((1, tiny.POSITIONS), dtype=np.int64)}
    longest["token_type_ids"] = np.repeat([[0, 1]], tiny.POSITIONS // 2, axis=1) * (tiny.CONFIGS[family].get("type_vocab_size", 0) > 1)
    one = {name: array[:1, :1] for name, array in data.batch([0]).items()}
    return [data.batch(range(12)), one, data.batch(range(4), pad_to=tiny.POSITIONS), longest]


def assert_same(family: str, expected: Any, *others: Any) -> None:
    """Compare forward functions on every batch, where tokens are no padding."""
    for batch in edge_batches(family):
        mask, right = batch["attention_mask"].astype(bool), expected(batch)
        for other in others:
            found = other(batch)
            left, wanted = (found[mask], right[mask]) if right.ndim == 3 else (found, right)
            np.testing.assert_allclose(left, wanted, rtol=0, atol=1e-4)


def onnx_forward(model: Any, form: GraphForm = PLAIN) -> Any:
    """Return the forward function of a model's graph in ONNX Runtime."""
    return session_forward(open_session(build_graph(model, form).SerializeToString(), 1, "cpu", {}))


def reload(model: Any, source: Path, folder: Path) -> Any:
    """Save a model with the tokenizer of `source`, and load it again."""
    folder.mkdir()
    save_model(model, folder, source)
    return load_model(folder)


def assert_sliced_is_the_same(family: str, target: Any, changes: dict[str, Any], kept: Sequence[Kept], folder: Path) -> None:
    """Compare transformers, ours and the graph; then, with few units left, ours, the reloaded checkpoint and every form of the graph."""
    tiny.write_checkpoint(folder / "dense", family, target=target, **changes)
    plain = model_class(family_of(family), target).from_pretrained(folder / "dense").eval()
    model = load_model(folder / "dense")
    assert_same(family, torch_forward(plain), torch_forward(model), onnx_forward(model))
    slice_model(model, kept)
    again = reload(model, folder / "dense", folder / "cut")
    forms = GraphForm("mha", "packed"), GraphForm("onnx", opset=23), GraphForm(scale="scores", opset=17)
    assert_same(family, torch_forward(model), torch_forward(again), onnx_forward(again), *(onnx_forward(again, form) for form in forms))


def assert_sliced_embedder_is_the_same(family: str, pooling: tuple[str, ...], kept: Sequence[Kept], folder: Path) -> None:
    """Compare an embedder with few units left, the reloaded folder, and the graph."""
    tiny.write_embedder(folder / "dense", family, pooling, dense=8)
    model = load_model(folder / "dense")
    slice_model(model, kept)
    assert_same(family, torch_forward(model), torch_forward(reload(model, folder / "dense", folder / "cut")), onnx_forward(model))


def calibration(family: str, model: Any, count: int = 12) -> list[Any]:
    """Return texts in batches of four, as tensors."""
    data = tiny.encoded(family, count)
    return [to_tensors(data.batch(range(start, start + 4)), model, torch.device("cpu")) for start in range(0, count, 4)]
