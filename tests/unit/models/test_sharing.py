"""Layers that share their weights: one copy in memory, on disk and in the graph, and everywhere the same answers."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from compress.core.errors import ModelError, UsageError
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.layers import encoder_layers
from compress.models.model_shape import count_params, model_shape
from compress.models.sharing import owners_of, refuse_shared, share_parameters, spans, unshare_parameters
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

OWNERS = (0, 1, 1)
KEPT = [Kept([0, 3], [1, 2]), Kept([1, 2], [5]), Kept([1, 2], [7])]


def shared(family: str = "bert", owners: tuple[int, ...] = OWNERS, kept: list[Kept] | None = None, **options: Any) -> Any:
    """Return a tiny model whose layers share."""
    model = tiny.make_model(family, **options)
    if kept is not None:
        slice_model(model, kept)
    share_parameters(model, owners)
    return model


def saved(model: Any, family: str, folder: Path) -> Path:
    """Save a model with its tokenizer."""
    folder.mkdir()
    tiny.write_tokenizer(folder, family)
    save_model(model, folder, folder)
    return folder


@pytest.mark.parametrize("kept", [None, KEPT], ids=["dense", "pruned"])
def test_torch_reloaded_and_onnx_agree(family: str, kept: list[Kept] | None, tmp_path: Path) -> None:
    model, data = shared(family, kept=kept), tiny.encoded(family, 20)
    expected = run_batches(torch_forward(model), data)
    again = load_model(saved(model, family, tmp_path / "saved"))
    assert (owners_of(again), count_params(again), model_shape(again)) == (OWNERS, count_params(model), model_shape(model))
    np.testing.assert_array_equal(run_batches(torch_forward(again), data), expected)
    graph = build_graph(again).SerializeToString()
    forward = session_forward(open_session(graph, 1, "cpu", RUNTIME_HINTS))
    np.testing.assert_allclose(run_batches(forward, data), expected, atol=1e-4)


def test_training_changes_all_layers_that_share_weights(family: str, tmp_path: Path) -> None:
    again = load_model(saved(shared(family), family, tmp_path / "saved"))
    for model in (again, copy.deepcopy(again)):
        _, second, third = encoder_layers(model)
        for first, other in zip(second.module.parameters(), third.module.parameters(), strict=True):
            assert first is other
        with torch.no_grad():
            second.ffn_in.weight.add_(1)
        assert torch.equal(second.ffn_in.weight, third.ffn_in.weight)


def test_the_file_holds_one_copy(family: str, tmp_path: Path) -> None:
    plain = saved(tiny.make_model(family), family, tmp_path / "plain")
    folder = saved(shared(family, (0, 0, 0)), family, tmp_path / "shared")
    spared = 4 * 2 * sum(parameter.numel() for parameter in next(encoder_layers(tiny.make_model(family))).module.parameters())
    sizes = [(path / "model.safetensors").stat().st_size for path in (plain, folder)]
    assert sizes[1] <= sizes[0] - spared
    with safe_open(folder / "model.safetensors", "pt") as stored:
        assert not [name for name in stored.keys() if ".1." in name or ".2." in name]  # noqa: SIM118 (a file, not a mapping)


def test_the_graph_holds_one_copy(family: str) -> None:
    model = shared(family, (0, 0, 0))
    graphs = [build_graph(each) for each in (tiny.make_model(family), model)]
    weights = sum(
        linear.weight.numel() for linear in [getattr(next(encoder_layers(model)), role) for role in ("query", "ffn_in", "ffn_out")]
    )
    assert graphs[1].ByteSize() <= graphs[0].ByteSize() - 2 * 4 * weights
    used = [node.input[1] for node in graphs[1].graph.node if node.name.endswith(".ffn.in")]
    assert len(used) == tiny.LAYERS
    assert len(set(used)) == 1


def test_the_config_records_owners_and_a_second_saving_keeps_them(tmp_path: Path) -> None:
    folder = saved(shared(), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    assert entry["shared"] == list(OWNERS)
    twice = saved(load_model(folder), "bert", tmp_path / "twice")
    assert json.loads((twice / "config.json").read_text())["compress"] == entry


def test_shared_layers_count_once() -> None:
    dense, model = model_shape(tiny.make_model()), model_shape(shared(owners=(0, 0, 0)))
    assert model.flops(9) == dense.flops(9)
    assert 3 * model.params() == dense.params()


@pytest.mark.parametrize("owners", [None, 3, [0, 0], [0, 0, 0, 0], [0, 2, 2], [0, -1, 0], [0, 0, 1], [0, True, 1], ["0", 1, 2], [1, 1, 1]])
def test_hostile_owners_are_refused(owners: Any, tmp_path: Path) -> None:
    folder = saved(shared(), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    tiny.edit_config(folder, compress={**entry, "shared": owners})
    with pytest.raises(ModelError, match="shared does not name"):
        load_model(folder)


def test_owners_of_another_shape_are_refused(tmp_path: Path) -> None:
    folder = saved(shared(kept=KEPT), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    tiny.edit_config(folder, compress={**entry, "layers": [*entry["layers"][:2], {"heads": 1, "ffn": 1}]})
    with pytest.raises(ModelError, match="layers of different shapes cannot share weights"):
        load_model(folder)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    folder = saved(shared(), "bert", tmp_path / "saved")
    entry = json.loads((folder / "config.json").read_text())["compress"]
    tiny.edit_config(folder, compress={**entry, "shared": [0, 1, 2]})
    with pytest.raises(ModelError, match="the weights do not fit"):
        load_model(folder)


def test_share_refuses_shared_layers() -> None:
    assert owners_of(tiny.make_model()) == ()
    refuse_shared(tiny.make_model())
    with pytest.raises(UsageError, match="share does not support models whose layers share weights: these 3 layers have 2 copies"):
        refuse_shared(shared())


def test_every_layer_that_shares_loses_the_same_units() -> None:
    kept = [KEPT[0], KEPT[1], KEPT[1]]
    first, second = shared(), shared()
    slice_model(first, kept)
    assert owners_of(first) == OWNERS
    unshare_parameters(second, OWNERS)
    assert owners_of(second) == ()
    slice_model(second, kept)
    data = tiny.encoded()
    np.testing.assert_array_equal(run_batches(torch_forward(first), data), run_batches(torch_forward(second), data))


def test_spans_share_no_weights_with_each_other() -> None:
    assert spans((0, 1, 2)) == [range(1), range(1, 2), range(2, 3)]
    assert spans((0, 1, 1, 0, 4)) == [range(4), range(4, 5)]
