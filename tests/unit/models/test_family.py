"""What every family must keep: masked model = sliced model = reloaded from its folder = authored graph in ONNX Runtime."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import ModelError
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.family import FAMILIES, family_of
from compress.models.model_shape import model_shape
from compress.prune.search import Kept
from compress.prune.surgery import mask_model, slice_model
from tests import tiny
from tests.pairwise import pairwise

TOLERANCE = 1e-4
ALL = Kept(list(range(tiny.HEADS)), list(range(tiny.FFN)))
NO_HEADS = Kept([], ALL.neurons)
NO_FFN = Kept(ALL.heads, [])
NEITHER = Kept([], [])


def some(seed: int) -> list[Kept]:
    """Keep a random, non-empty set of every layer's heads and neurons."""
    rng = np.random.default_rng(seed)

    def subset(size: int) -> list[int]:
        return sorted(rng.choice(size, rng.integers(1, size + 1), replace=False).tolist())

    return [Kept(subset(tiny.HEADS), subset(tiny.FFN)) for _ in range(tiny.LAYERS)]


LAYERS = {  # what a layer may keep
    "some": None,
    "one head, one neuron": Kept([2], [7]),
    "no heads": NO_HEADS,
    "no FFN": NO_FFN,
    "neither": NEITHER,
}
# Every family meets every kind of layer in every place, and any two kinds meet in any two places; then no attention in any layer.
SHAPES = [
    *pairwise([*tiny.FAMILIES, *tiny.OTHER_BLOCKS], *[list(LAYERS)] * tiny.LAYERS),
    *((family, "neither", "neither", "neither") for family in (*tiny.FAMILIES, *tiny.OTHER_BLOCKS)),
    *((family, "no heads", "no heads", "neither") for family in ("bert", "distilbert", "mpnet", "modernbert")),
    *((family, "some", "no heads", "no FFN") for family in tiny.RENAMED),
]


def onnx_forward(model: Any, hints: dict[str, Any] | None = None) -> Any:
    """Open the authored graph of a model in ONNX Runtime."""
    return session_forward(open_session(build_graph(model).SerializeToString(), 1, "cpu", RUNTIME_HINTS if hints is None else hints))


@cache
def batches(family: str) -> list[dict[str, np.ndarray]]:
    """Return ragged batches: singles and pairs, mixed and even lengths, and one row alone."""
    single, pairs = tiny.encoded(family), tiny.encoded(family, pairs=True, seed=1)
    order = np.argsort(single.lengths)
    return [single.batch(range(12)), single.batch(order[:3]), single.batch([int(order[-1])]), pairs.batch(range(12))]


def assert_same(family: str, first: Any, *others: Any) -> None:
    """Compare forward functions on every batch."""
    for batch in batches(family):
        expected = first(batch)
        for other in others:
            np.testing.assert_allclose(other(batch), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("family", *(f"layer_{number}" for number in range(tiny.LAYERS))), SHAPES)
def test_masked_sliced_reloaded_and_onnx_compute_the_same(family: str, layer_0: str, layer_1: str, layer_2: str, tmp_path: Path) -> None:
    kept = [LAYERS[name] or random for name, random in zip((layer_0, layer_1, layer_2), some(0), strict=True)]
    masked, sliced = tiny.make_model(family), tiny.make_model(family)
    mask_model(masked, kept)
    slice_model(sliced, kept)
    tiny.write_tokenizer(tmp_path, family)
    save_model(sliced, tmp_path, tmp_path)
    reloaded = load_model(tmp_path)

    sizes = [(layer.heads, layer.ffn) for layer in model_shape(reloaded).layers]

    assert sizes == [(len(layer.heads), len(layer.neurons)) for layer in kept]
    plain = onnx_forward(reloaded, hints={})  # as ONNX Runtime opens it without our hints
    assert_same(family, *(torch_forward(model) for model in (masked, sliced, reloaded)), onnx_forward(sliced), plain)


@pytest.mark.parametrize(("family", "target"), zip(tiny.RENAMED, ("tags", "span", "vector"), strict=True))
def test_heads_of_families_that_only_rename(family: str, target: Any, tmp_path: Path) -> None:
    if target == "vector":
        tiny.write_embedder(tmp_path, family)
    else:
        tiny.write_checkpoint(tmp_path, family, target=target)
    model = load_model(tmp_path)
    assert_same(family, torch_forward(model), onnx_forward(model))


def test_masking_changes_the_logits(family: str) -> None:
    model = tiny.make_model(family)
    before = torch_forward(model)(batches(family)[0])
    mask_model(model, some(0))
    assert np.abs(torch_forward(model)(batches(family)[0]) - before).max() > 1e-2


def test_padding_changes_no_logits_in_either_runtime(family: str) -> None:
    model = tiny.make_model(family)
    slice_model(model, [*some(2)[:2], NO_HEADS])
    data = tiny.encoded(family)
    for forward in (torch_forward(model), onnx_forward(model)):
        together = forward(data.batch(range(12)))
        alone = np.concatenate([forward(data.batch([number])) for number in range(12)])
        wide = forward(data.batch(range(12), pad_to=tiny.POSITIONS))
        np.testing.assert_allclose(together, alone, atol=TOLERANCE)
        np.testing.assert_allclose(together, wide, atol=TOLERANCE)


def test_token_types_reach_the_graph_where_the_family_has_them(family: str) -> None:
    forward = onnx_forward(tiny.make_model(family))
    batch = tiny.encoded(family, pairs=True).batch(range(12))
    without = batch | {"token_type_ids": np.zeros_like(batch["token_type_ids"])}
    changed = np.abs(forward(batch) - forward(without)).max() > 1e-3
    assert changed == (family in {"bert", "electra"})  # RoBERTa has one type, DistilBERT none


@pytest.mark.parametrize("changes", [{"hidden_act": "relu"}, {"hidden_act": "gelu_new"}, {"layer_norm_eps": 1e-2}], ids=str)
def test_graph_follows_the_config(changes: dict[str, Any]) -> None:
    model = tiny.make_model("bert", **changes)
    assert_same("bert", torch_forward(model), onnx_forward(model))


@pytest.mark.parametrize(("family", "activation"), [("distilbert", {"activation": "relu"}), ("electra", {"hidden_act": "relu"})])
def test_graph_follows_the_config_of_other_families(family: str, activation: dict[str, str]) -> None:
    model = tiny.make_model(family, **activation)
    assert_same(family, torch_forward(model), onnx_forward(model))


def test_unknown_activation_is_refused() -> None:
    with pytest.raises(ModelError, match="'mish' cannot be exported"):
        build_graph(tiny.make_model("bert", hidden_act="mish"))


def test_slicing_twice_equals_slicing_once() -> None:
    once, twice = tiny.make_model(), tiny.make_model()
    slice_model(once, [Kept([1, 3], [5, 9, 60])] * tiny.LAYERS)
    slice_model(twice, [Kept([1, 2, 3], [5, 9, 30, 60])] * tiny.LAYERS)
    slice_model(twice, [Kept([0, 2], [0, 1, 3])] * tiny.LAYERS)
    assert_same("bert", torch_forward(once), torch_forward(twice))


def test_a_sliced_model_trains(family: str) -> None:
    model = tiny.make_model(family)
    slice_model(model, [some(1)[0], NEITHER, some(1)[2]])
    before = copy.deepcopy(model.state_dict())
    inputs = {
        name: array for name, array in tiny.encoded(family).batch(range(4)).items() if FAMILIES[family].token_types or "type" not in name
    }

    model.train()
    model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.square().sum().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(changed) > len(before) / 2


@pytest.mark.parametrize(("wrong", "suggestion"), [("brt", "did you mean 'bert'"), ("gpt2", "supported"), (None, "supported")])
def test_unknown_family_names_the_known_ones(wrong: Any, suggestion: str) -> None:
    with pytest.raises(ModelError) as caught:
        family_of(wrong)
    assert suggestion in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.exit_code == 4
