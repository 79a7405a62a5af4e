"""The bias of relative positions, and which of its columns a layer takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from compress.core.errors import ModelError
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.layers import encoder_layers
from compress.models.relative_positions import COLUMNS, bias_by_distance, bias_columns, bias_table
from compress.prune.search import Kept
from compress.prune.surgery import mask_model, slice_model
from tests import tiny

FFN = list(range(tiny.FFN))
FIRST = [Kept([1, 2, 3], FFN), Kept([0, 1, 2, 3], FFN), Kept([0, 2], [])]
SECOND = [Kept([0, 2], FFN), Kept([3], FFN[:9]), Kept([1], [])]  # of what the first left
BOTH = [Kept([1, 3], FFN), Kept([3], FFN[:9]), Kept([2], [])]


def columns(model: Any) -> list[list[int] | None]:
    """Return each layer's columns, None for a layer that takes them all."""
    kept = [getattr(layer.module.attention.attn, COLUMNS, None) for layer in encoder_layers(model)]
    return [None if columns is None else columns.tolist() for columns in kept]


def reloaded(model: Any, folder: Path) -> Any:
    """Save and load."""
    folder.mkdir()
    tiny.write_tokenizer(folder, "mpnet")
    save_model(model, folder, folder)
    return load_model(folder)


def test_pruned_saved_loaded_and_pruned_again(tmp_path: Path) -> None:
    """Heads are numbered anew at each cut, and their biases stay those of the first model."""
    masked, model = tiny.make_model("mpnet"), tiny.make_model("mpnet")
    mask_model(masked, BOTH)
    slice_model(model, FIRST)
    model = reloaded(model, tmp_path / "first")
    assert columns(model) == [[1, 2, 3], None, [0, 2]]
    slice_model(model, SECOND)
    again = reloaded(model, tmp_path / "second")
    assert columns(again) == [[1, 3], [3], [2]]
    graph = session_forward(open_session(build_graph(again).SerializeToString(), 1, "cpu", RUNTIME_HINTS))
    batch = tiny.encoded("mpnet").batch(range(12), pad_to=100)
    for forward in (torch_forward(model), torch_forward(again), graph):
        np.testing.assert_allclose(forward(batch), torch_forward(masked)(batch), rtol=0, atol=1e-4)


def test_other_columns_are_another_model() -> None:
    """What the equality above rests on: each head's bias matters."""
    model = tiny.make_model("mpnet")
    slice_model(model, BOTH)
    batch = tiny.encoded("mpnet").batch(range(12))
    before = torch_forward(model)(batch)
    next(encoder_layers(model)).module.attention.attn.register_buffer(COLUMNS, torch.tensor([0, 1]))
    assert np.abs(torch_forward(model)(batch) - before).max() > 1e-2


def test_layers_share_the_table_whatever_they_lost() -> None:
    model = tiny.make_model("mpnet")
    slice_model(model, BOTH)
    table = bias_table(model)
    assert table is not None
    batch = {name: torch.from_numpy(array) for name, array in tiny.encoded("mpnet").batch(range(4)).items() if name != "token_type_ids"}
    model(**batch).logits.square().sum().backward()
    gradient = table.weight.grad
    assert gradient is not None
    assert gradient.any(0).tolist() == [False, True, True, True]  # no layer has the first head


def test_distances_are_those_of_transformers() -> None:
    longest = 300
    model = tiny.make_model("mpnet")
    biases = bias_by_distance(model, longest)
    assert biases is not None
    expected = model.mpnet.encoder.compute_position_bias(torch.zeros(1, longest, 1))[0]
    queries, keys = torch.meshgrid(torch.arange(longest), torch.arange(longest), indexing="ij")
    assert torch.equal(biases[:, keys - queries], expected)


def test_families_without_a_bias() -> None:
    model = tiny.make_model("roberta")
    assert bias_table(model) is None
    assert bias_by_distance(model, 4) is None
    assert bias_columns(model, model.roberta.encoder.layer[0].attention.self) is None


@pytest.mark.parametrize("wrong", [[0, 4], [-1, 2]], ids=str)
def test_columns_that_the_table_lacks_are_refused(tmp_path: Path, wrong: list[int]) -> None:
    model = tiny.make_model("mpnet")
    slice_model(model, BOTH)
    reloaded(model, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    state = load_file(path)
    state[f"mpnet.encoder.layer.0.attention.attn.{COLUMNS}"] = torch.tensor(wrong)
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="layer 0 takes relative position biases of heads"):
        load_model(path.parent)


def test_more_heads_than_columns_are_refused(tmp_path: Path) -> None:
    model = tiny.make_model("mpnet")
    slice_model(model, BOTH)
    reloaded(model, tmp_path / "model")
    entry = {**model.config.compress, "layers": [{"heads": 5, "ffn": 1}] * tiny.LAYERS}
    with pytest.raises(ModelError, match="5 heads, and relative position biases of 4"):
        load_model(tiny.edit_config(tmp_path / "model", compress=entry))
