"""Removing layers, against the kept layers run by hand; exchanging layers for a while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import UsageError
from compress.editing.encoder_layers import CachedOutput, keep_layers, replaced_layers
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.device import to_tensors
from compress.models.family import family_of
from compress.models.layers import encoder_layers, find_submodule, layer_list
from compress.models.model_shape import model_shape
from compress.models.shape import CONFIG_KEY
from compress.models.task_loss import logits_of
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny
from tests.conftest import FAMILIES
from tests.pairwise import pairwise

CPU = torch.device("cpu")
TOLERANCE = 1e-4
PRUNED = [Kept([0, 3], [1, 5, 63]), Kept([], [2]), Kept([1], [])]
CUTS = [[0], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]]


def by_hand(model: Any, kept: list[int], batch: Any) -> torch.Tensor:
    """Run a model with every other layer handing on its input: hooks replace what the layers compute."""
    removed = [layer.module for number, layer in enumerate(encoder_layers(model)) if number not in kept]
    inputs: dict[Any, torch.Tensor] = {}

    def remember(module: Any, args: Any, options: Any) -> None:
        inputs[module] = args[0] if args else options["hidden_states"]

    hooks = [module.register_forward_pre_hook(remember, with_kwargs=True) for module in removed]
    hooks += [
        module.register_forward_hook(lambda module, args, output: (inputs[module],) if isinstance(output, tuple) else inputs[module])
        for module in removed
    ]
    with torch.no_grad():
        logits = logits_of(model(**batch))
    for hook in hooks:
        hook.remove()
    return logits


@pytest.mark.parametrize(("family", "kept", "pruned"), pairwise(FAMILIES, CUTS, [False, True]))
def test_cut_equals_by_hand_reloaded_and_onnx(family: str, kept: list[int], pruned: bool, tmp_path: Path) -> None:
    model = tiny.make_model(family)
    if pruned:
        slice_model(model, PRUNED)
    before = model_shape(model)
    arrays = tiny.encoded(family, 8, pairs=True).batch(range(8))
    expected = by_hand(model, kept, to_tensors(arrays, model, CPU)).numpy()
    keep_layers(model, kept)
    assert model_shape(model).layers == tuple(before.layers[number] for number in kept)
    tiny.write_tokenizer(tmp_path, family)
    save_model(model, tmp_path, tmp_path)
    again = load_model(tmp_path)
    assert model_shape(again) == model_shape(model)
    assert [getattr(model.config, family_of(family).layers_key), len(list(encoder_layers(again)))] == [len(kept)] * 2
    session = open_session(build_graph(again).SerializeToString(), 1, "cpu", RUNTIME_HINTS)
    for forward in (torch_forward(model), torch_forward(again), session_forward(session)):
        np.testing.assert_allclose(forward(arrays), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("target", ["tags", "span"])
def test_token_heads_are_cut_too(family: str, target: Any, tmp_path: Path) -> None:
    model = tiny.make_model(family, target=target)
    arrays = tiny.encoded(family, 8, pairs=True).batch(range(8))
    expected = by_hand(model, [0, 2], to_tensors(arrays, model, CPU)).numpy()
    keep_layers(model, [0, 2])
    tiny.write_tokenizer(tmp_path, family)
    save_model(model, tmp_path, tmp_path)
    mask = arrays["attention_mask"].astype(bool)
    for forward in (torch_forward(model), torch_forward(load_model(tmp_path))):
        np.testing.assert_allclose(forward(arrays)[mask], expected[mask], rtol=0, atol=TOLERANCE)


def test_plain_transformers_loads_a_dense_cut(family: str, tmp_path: Path) -> None:
    import transformers

    model = tiny.make_model(family)
    keep_layers(model, [0, 2])
    assert not hasattr(model.config, CONFIG_KEY)
    tiny.save_pretrained(model, tmp_path)
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(str(tmp_path)).eval()
    assert plain.state_dict().keys() == model.state_dict().keys()
    batch = to_tensors(tiny.encoded(family, 8).batch(range(8)), model, CPU)
    with torch.no_grad():
        torch.testing.assert_close(plain(**batch).logits, model(**batch).logits, rtol=0, atol=TOLERANCE)


def test_layers_are_renumbered(family: str) -> None:
    model, fresh = tiny.make_model(family), tiny.make_model(family, num_hidden_layers=2)
    keep_layers(model, [1, 2])
    numbers = [[getattr(part, "layer_idx", None) for part in one.modules()] for one in (model, fresh)]
    assert numbers[0] == numbers[1]
    encoder = find_submodule(model, family_of(family).encoder)
    assert getattr(getattr(encoder, "transformer", None), "n_layers", 2) == 2


def test_removing_the_only_pruned_layer_removes_the_entry() -> None:
    model = tiny.make_model()
    everything = Kept(list(range(tiny.HEADS)), list(range(tiny.FFN)))
    slice_model(model, [everything, Kept([1], [2]), everything])
    keep_layers(model, [0, 2])
    assert not hasattr(model.config, CONFIG_KEY)  # the config describes the rest


@pytest.mark.parametrize("kept", [[], [1, 0], [0, 0], [-1], [3]], ids=str)
def test_invalid_positions_are_refused(kept: list[int]) -> None:
    with pytest.raises(UsageError, match="from 0 to 2"):
        keep_layers(tiny.make_model(), kept)


def test_layers_are_restored_even_after_an_error() -> None:
    layers = layer_list(tiny.make_model())
    before = list(layers)
    with pytest.raises(RuntimeError), replaced_layers(layers, before[:1]):
        assert list(layers) == before[:1]
        raise RuntimeError
    assert list(layers) == before


@torch.no_grad()
def test_a_cached_output_replaces_the_layers_below(family: str) -> None:
    """The first layer's output, cached, gives the logits of the whole model."""
    model = tiny.make_model(family)
    batch, layers = to_tensors(tiny.encoded(family).batch(range(4)), model, CPU), layer_list(model)
    outputs: list[object] = []
    hook = layers[0].register_forward_hook(lambda module, args, output: outputs.append(output))
    expected = model(**batch).logits
    hook.remove()
    with replaced_layers(layers, [CachedOutput(outputs[0]), *list(layers)[1:]]):
        torch.testing.assert_close(model(**batch).logits, expected)
