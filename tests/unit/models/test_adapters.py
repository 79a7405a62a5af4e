"""Adapters: what they compute, and that PyTorch, a reloaded checkpoint and ONNX agree on it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from compress.core.errors import ModelError, UsageError
from compress.distill.students import take_layers
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.adapters import INIT_STD, Adapter, adapter_size, adapters, add_adapters, refuse_adapters
from compress.models.checkpoint import load_model, save_model
from compress.models.layers import encoder_layers
from compress.models.model_shape import count_params, model_shape
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

SIZE = 6
KEPT = [Kept([0, 3], [1, 2]), Kept([], [5]), Kept([1], [])]
HEADLESS = [Kept([0, 3], [1]), Kept([], []), Kept([], [])]


def adapted(family: str = "bert", kept: list[Kept] | None = None, sigma: float = 0.3, **options: Any) -> Any:
    """Return a tiny model with adapters of random weights and biases, large enough to show."""
    model = tiny.make_model(family, **options)
    if kept is not None:
        slice_model(model, kept)
    add_adapters(model, SIZE)
    torch.manual_seed(7)
    with torch.no_grad():
        for adapter in adapters(model):
            for parameter in adapter.parameters():
                parameter.normal_(std=sigma)
    return model


def saved(model: Any, family: str, folder: Path) -> Path:
    """Save a model with its tokenizer."""
    folder.mkdir()
    tiny.write_tokenizer(folder, family)
    save_model(model, folder, folder)
    return folder


def test_an_adapter_by_hand() -> None:
    adapter = Adapter(5, 2)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    states = torch.randn(3, 4, 5)
    inner = functional.gelu(states @ adapter.down.weight.T + adapter.down.bias)
    torch.testing.assert_close(adapter(states), states + inner @ adapter.up.weight.T + adapter.up.bias)


def test_new_adapters_change_next_to_nothing(family: str) -> None:
    model, data = tiny.make_model(family), tiny.encoded(family)
    before = run_batches(torch_forward(model), data)
    add_adapters(model, SIZE)
    assert len(adapters(model)) == 2 * tiny.LAYERS
    for adapter in adapters(model):
        for linear in (adapter.down, adapter.up):
            assert 0 < linear.weight.abs().max() <= 2 * INIT_STD
            assert not linear.bias.any()
    np.testing.assert_allclose(run_batches(torch_forward(model), data), before, atol=1e-3)


def test_adapters_stand_before_the_residual_and_the_norm(family: str) -> None:
    """With adapters that add a constant, the model answers as one whose output projections have that much more bias."""
    model, other, data = tiny.make_model(family), tiny.make_model(family), tiny.encoded(family)
    add_adapters(model, SIZE)
    torch.manual_seed(1)
    with torch.no_grad():
        shifts = [torch.randn(tiny.HIDDEN) for _ in adapters(model)]
        for adapter, shift in zip(adapters(model), shifts, strict=True):
            adapter.up.weight.zero_()
            adapter.up.bias.copy_(shift)
        linears = [linear for layer in encoder_layers(other) for linear in (layer.attention_output, layer.ffn_out)]
        for linear, shift in zip(linears, shifts, strict=True):
            linear.bias += shift
    np.testing.assert_allclose(run_batches(torch_forward(model), data), run_batches(torch_forward(other), data), atol=1e-5)


@pytest.mark.parametrize("kept", [None, KEPT, HEADLESS], ids=["dense", "pruned", "headless"])
def test_torch_reloaded_and_onnx_agree(family: str, kept: list[Kept] | None, tmp_path: Path) -> None:
    model, data = adapted(family, kept), tiny.encoded(family, 20)
    expected = run_batches(torch_forward(model), data)
    plain = tiny.make_model(family)
    if kept is not None:
        slice_model(plain, kept)
    assert np.abs(expected - run_batches(torch_forward(plain), data)).max() > 0.1
    again = load_model(saved(model, family, tmp_path / "saved"))
    assert (adapter_size(again), count_params(again), model_shape(again)) == (SIZE, count_params(model), model_shape(model))
    np.testing.assert_array_equal(run_batches(torch_forward(again), data), expected)
    graph = build_graph(again).SerializeToString()
    forward = session_forward(open_session(graph, 1, "cpu", RUNTIME_HINTS))
    np.testing.assert_allclose(run_batches(forward, data), expected, atol=1e-4)


@pytest.mark.parametrize("target", ["labels", "value", "tags", "span"])
def test_every_head_is_exported(target: Any, tmp_path: Path) -> None:
    model, data = adapted("distilbert", target=target), tiny.encoded("distilbert")
    again = load_model(saved(model, "distilbert", tmp_path / "saved"))
    forward = session_forward(open_session(build_graph(again).SerializeToString(), 1, "cpu", RUNTIME_HINTS))
    np.testing.assert_allclose(run_batches(forward, data), run_batches(torch_forward(model), data), atol=1e-4)


def test_the_config_records_the_size(tmp_path: Path) -> None:
    folder = saved(adapted(), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    assert entry == {
        "version": 1, "head_size": tiny.HEAD_SIZE, "layers": [{"heads": tiny.HEADS, "ffn": tiny.FFN}] * tiny.LAYERS, "adapter_size": SIZE,
    }  # fmt: skip
    twice = saved(load_model(folder), "bert", tmp_path / "twice")
    assert json.loads((twice / "config.json").read_text())["compress"] == entry


@pytest.mark.parametrize("size", [0, -1, True, "6", None, 1 << 20])
def test_a_hostile_size_is_refused(size: Any, tmp_path: Path) -> None:
    folder = saved(adapted(), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    tiny.edit_config(folder, compress={**entry, "adapter_size": size})
    with pytest.raises(ModelError, match="adapter_size is"):
        load_model(folder)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = saved(adapted(), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    tiny.edit_config(folder, compress={**entry, "adapter_size": SIZE + 1})
    with pytest.raises(ModelError, match="the weights do not fit"):
        load_model(folder)


def test_copies_and_students_keep_their_adapters(tmp_path: Path) -> None:
    model = adapted()
    student = take_layers(copy.deepcopy(model), 2)
    again = load_model(saved(student, "bert", tmp_path / "student"))
    assert len(adapters(again)) == 4
    data = tiny.encoded()
    np.testing.assert_array_equal(run_batches(torch_forward(again), data), run_batches(torch_forward(student), data))


def test_prune_refuses_adapters() -> None:
    refuse_adapters(tiny.make_model(), "prune")
    with pytest.raises(UsageError, match="prune does not support models with adapters") as caught:
        refuse_adapters(adapted(), "prune")
    assert "--mode adapter" in (caught.value.hint or "")
