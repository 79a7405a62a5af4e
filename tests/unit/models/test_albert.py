"""ALBERT: transformers = ours = masked = sliced = reloaded = ONNX for every grouping, and what layers that are used several times need."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from compress.editing.encoder_layers import keep_layers
from compress.editing.width import narrow
from compress.export.attention import GraphForm
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.models.adapters import add_adapters
from compress.models.checkpoint import load_model, save_model
from compress.models.family import family_of
from compress.models.layers import encoder_layers
from compress.models.masked_lm import load_masked_lm
from compress.models.model_shape import count_params, model_shape
from compress.models.sharing import owners_of
from compress.prune.search import Kept
from compress.prune.sparse import sparsify
from compress.prune.surgery import mask_model, slice_model
from compress.quantize.dynamic import dynamic_graph
from tests import tiny
from tests.unit.models.edge_batches import assert_same, calibration, onnx_forward

GROUPS: dict[str, Any] = {"num_hidden_layers": 4, "num_hidden_groups": 2}
INNER: dict[str, Any] = {"num_hidden_layers": 2, "inner_group_num": 2}
VARIANTS: list[tuple[Any, dict[str, Any]]] = [  # every setting of the config that changes what is computed, with every head
    ("class", {}),
    ("tags", GROUPS),
    ("span", INNER),
    ("labels", {"num_hidden_groups": 3, "hidden_act": "gelu_new"}),
    ("value", {"embedding_size": 32, "layer_norm_eps": 1e-3}),
    ("class", {**GROUPS, **INNER, "num_hidden_layers": 3, "hidden_act": "relu"}),
]
CUTS = {
    "some": Kept([0, 2], [1, 5, 9, 40]),
    "no heads": Kept([], list(range(20))),
    "no FFN": Kept([3], []),
    "neither": Kept([], []),
}


def saved(model: Any, folder: Path) -> Any:
    """Save a model and load it again."""
    folder.mkdir(exist_ok=True)
    tiny.write_tokenizer(folder, "albert")
    save_model(model, folder, folder)
    return load_model(folder)


def plain(folder: Path, target: Any = "class") -> Any:
    """Load a folder by transformers alone."""
    return getattr(transformers, family_of("albert").head_class(target)).from_pretrained(folder).eval()


@pytest.mark.parametrize(("target", "changes"), VARIANTS, ids=str)
def test_transformers_ours_sliced_reloaded_and_onnx_compute_the_same(target: Any, changes: dict[str, Any], tmp_path: Path) -> None:
    tiny.write_checkpoint(tmp_path / "dense", "albert", target=target, **changes)
    model = load_model(tmp_path / "dense")
    saved(model, tmp_path / "again")
    theirs = [torch_forward(plain(folder, target)) for folder in (tmp_path / "dense", tmp_path / "again")]
    assert_same("albert", theirs[0], theirs[1], torch_forward(model), onnx_forward(model))
    owners, layers = owners_of(model), len(model_shape(model).layers)
    kinds = list(CUTS.values())
    kept = [kinds[owner % len(kinds)] for owner in owners or range(layers)]
    masked = copy.deepcopy(model)
    mask_model(masked, kept)
    slice_model(model, kept)
    again = saved(model, tmp_path / "sliced")
    assert owners_of(model) == owners_of(again) == owners
    forms = GraphForm("mha", "packed", "scores"), GraphForm("onnx", opset=23), GraphForm(scale="scores", opset=17)
    others = [onnx_forward(again, form) for form in forms]
    assert_same("albert", torch_forward(model), torch_forward(masked), torch_forward(again), onnx_forward(again), *others)


@pytest.mark.parametrize("cut", list(CUTS))
def test_every_use_loses_the_same_units(cut: str, tmp_path: Path) -> None:
    masked, model = tiny.make_model("albert"), tiny.make_model("albert")
    mask_model(masked, [CUTS[cut]] * tiny.LAYERS)
    slice_model(model, [CUTS[cut]] * tiny.LAYERS)
    again = saved(model, tmp_path)
    assert (owners_of(again), count_params(again)) == ((0, 0, 0), count_params(model))
    assert_same("albert", torch_forward(masked), torch_forward(model), torch_forward(again), onnx_forward(model))


def test_embedders(tmp_path: Path) -> None:
    tiny.write_embedder(tmp_path / "dense", "albert", ("mean",), dense=8)
    model = load_model(tmp_path / "dense")
    tiny.write_tokenizer(tmp_path, "albert")
    save_model(model, tmp_path, tmp_path / "dense")
    assert_same("albert", torch_forward(model), torch_forward(load_model(tmp_path)), onnx_forward(model))
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == tiny.LAYERS


def test_a_masked_language_model_opens(tmp_path: Path) -> None:
    tiny.write_masked_lm(tmp_path, "albert")
    theirs, batch = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval(), {"input_ids": torch.arange(8, 20)[None]}
    with torch.no_grad():
        torch.testing.assert_close(load_masked_lm(tmp_path)(**batch).logits, theirs(**batch).logits)


def test_weights_are_stored_and_exported_once(tmp_path: Path) -> None:
    one, own = tiny.make_model("albert"), tiny.make_model("albert", num_hidden_groups=3)
    layer = sum(parameter.numel() for parameter in next(encoder_layers(one)).module.parameters())
    assert count_params(own) - count_params(one) == 2 * layer
    saved(one, tmp_path / "one"), saved(own, tmp_path / "own")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("one", "own")]
    assert sizes[1] - sizes[0] >= 4 * 2 * layer
    matrices = sum(parameter.numel() for parameter in next(encoder_layers(one)).module.parameters() if parameter.ndim == 2)
    graphs = build_graph(own), build_graph(one)
    assert graphs[0].ByteSize() - graphs[1].ByteSize() >= 4 * 2 * matrices
    int8 = [dynamic_graph(graph, seven_bits=False) for graph in graphs]
    assert int8[0].ByteSize() - int8[1].ByteSize() >= 2 * matrices


@pytest.mark.parametrize(
    ("changes", "kept", "grouping"),
    [({}, [0, 2], (2, 1, 1)), (GROUPS, [0, 1, 3], (3, 2, 1)), (GROUPS, [0, 2, 3], None), (INNER, [0, 2], (2, 1, 1))],
    ids=str,
)
def test_fewer_uses_are_a_plain_checkpoint_if_the_config_can_say_so(changes: Any, kept: list[int], grouping: Any, tmp_path: Path) -> None:
    model = tiny.make_model("albert", **changes)
    keep_layers(model, kept)
    assert_same("albert", torch_forward(model), torch_forward(saved(model, tmp_path)), onnx_forward(model))
    config = json.loads((tmp_path / "config.json").read_text())
    assert ("compress" in config) == (grouping is None)
    if grouping:
        assert (config["num_hidden_layers"], config["num_hidden_groups"], config["inner_group_num"]) == grouping
        assert_same("albert", torch_forward(model), torch_forward(plain(tmp_path)))


def test_narrowed(tmp_path: Path) -> None:
    model = tiny.make_model("albert")
    narrow(model, sorted(np.random.default_rng(0).choice(tiny.HIDDEN, 16, replace=False).tolist()))
    shape = model_shape(model)
    assert (shape.hidden, shape.head_size, shape.shared) == (16, tiny.HEAD_SIZE, (0, 0, 0))
    assert_same("albert", torch_forward(model), torch_forward(saved(model, tmp_path)), onnx_forward(model))


def test_sparse_weights_and_adapters_are_shared(tmp_path: Path) -> None:
    model = tiny.make_model("albert")
    shares = sparsify(model, calibration("albert", model), "2:4")
    assert shares == dict.fromkeys(shares, 0.5)
    add_adapters(model, 4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)
    again = saved(model, tmp_path)
    assert owners_of(model) == owners_of(again) == (0, 0, 0)
    assert_same("albert", torch_forward(model), torch_forward(again), onnx_forward(again))
