"""Dropping layers: against brute force, and against the kept layers run by hand."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from compress.core.errors import UsageError
from compress.editing.encoder_layers import keep_layers
from compress.export import RUNTIME_HINTS
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.device import to_tensors
from compress.models.family import family_of
from compress.models.layers import encoder_layers, find_submodule
from compress.models.model_shape import model_shape
from compress.models.shape import CONFIG_KEY
from compress.models.task_loss import logits_of
from compress.prune.depth import drop_order
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

CPU = torch.device("cpu")
TOLERANCE = 1e-4
PRUNED = [Kept([0, 3], [1, 5, 63]), Kept([], [2]), Kept([1], [])]
CUTS = [[0], [2], [0, 1], [0, 2], [1, 2], [0, 1, 2]]
BATCHES = [[0, 1, 2, 3, 4], [5, 6, 7], [8, 9, 10, 11]]


def loss_of(model: Any, family: str, positions: list[int]) -> torch.Tensor:
    """Return the summed cross-entropy of examples."""
    data = tiny.encoded(family, 12, pairs=True)
    logits = logits_of(model(**to_tensors(data.batch(positions), model, CPU)))
    return functional.cross_entropy(logits, torch.from_numpy(data.labels)[positions], reduction="sum")


def order_of(model: Any, family: str, **options: Any) -> list[tuple[int, float]]:
    """Return the order in which a model's layers are dropped."""
    return drop_order(model, BATCHES, lambda positions: loss_of(model, family, positions), **options)


def loss_with(model: Any, family: str, kept: list[int]) -> float:
    """Return the loss of a copy that is really cut."""
    smaller = copy.deepcopy(model)
    keep_layers(smaller, kept)
    with torch.no_grad():
        return sum(float(loss_of(smaller, family, positions)) for positions in BATCHES)


@pytest.mark.parametrize("pruned", [False, True])
def test_each_drop_is_the_best_that_is_left(family: str, pruned: bool) -> None:
    """Brute force: every single drop from what is left, by a model that is really cut."""
    for seed in range(3):
        model = tiny.make_model(family, seed=seed, num_hidden_layers=4)  # DistilBERT knows this name too
        if pruned:
            slice_model(model, [*PRUNED, Kept([0, 1], [3])])
        left = [0, 1, 2, 3]
        found = order_of(model, family)
        assert len(found) == 3
        for dropped, loss in found:
            trials = {number: loss_with(model, family, [other for other in left if other != number]) for number in left}
            assert loss == pytest.approx(trials[dropped], rel=1e-5)
            assert trials[dropped] == pytest.approx(min(trials.values()), rel=1e-5)
            left.remove(dropped)


def test_the_model_is_left_as_it_was(family: str) -> None:
    model = tiny.make_model(family)
    before, stack = copy.deepcopy(model.state_dict()), [layer.module for layer in encoder_layers(model)]
    calls: list[int] = []
    assert len(order_of(model, family, least=2, advance=lambda: calls.append(1))) == len(calls) == 1
    assert [layer.module for layer in encoder_layers(model)] == stack
    assert not any(module._forward_hooks for module in stack)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_failing_loss_leaves_the_model_as_it_was() -> None:
    model = tiny.make_model()
    stack = [layer.module for layer in encoder_layers(model)]
    with pytest.raises(ZeroDivisionError):
        drop_order(model, [1, 0], lambda batch: torch.tensor(1 / batch) + loss_of(model, "bert", [0]))
    assert [layer.module for layer in encoder_layers(model)] == stack
    assert not any(module._forward_hooks for module in stack)


def test_a_layer_that_does_nothing_goes_first() -> None:
    """A layer whose LayerNorms hand on what they are given: it must follow another LayerNorm of gain 1 for that."""
    model = tiny.make_model()
    slice_model(model, [Kept([0, 1, 2, 3], list(range(tiny.FFN))), Kept([], []), Kept([0, 1, 2, 3], list(range(tiny.FFN)))])
    first, idle, _ = encoder_layers(model)
    with torch.no_grad():
        for norm in (first.output_norm, idle.attention_norm, idle.output_norm):
            norm.weight.fill_(1)
            norm.bias.zero_()
        for linear in (idle.attention_output, idle.ffn_out):
            linear.bias.zero_()
        whole = sum(float(loss_of(model, "bert", positions)) for positions in BATCHES)
    changes = {number: abs(loss_with(model, "bert", [other for other in range(3) if other != number]) - whole) for number in range(3)}
    assert changes[1] < 1e-3 < min(changes[0], changes[2])
    scored = drop_order(
        model, BATCHES, lambda positions: (loss_of(model, "bert", positions) - loss_of_whole(model, positions)).square(), least=2
    )
    assert scored[0][0] == 1


def loss_of_whole(model: Any, positions: list[int]) -> torch.Tensor:
    """Return the loss of the untouched twin of a model, made once."""
    if not hasattr(loss_of_whole, "twin"):
        loss_of_whole.twin = copy.deepcopy(model)  # pyright: ignore[reportFunctionMemberAccess]
    return loss_of(loss_of_whole.twin, "bert", positions)  # pyright: ignore[reportFunctionMemberAccess]


def by_hand(model: Any, kept: list[int], batch: Any) -> torch.Tensor:
    """Run a model with every other layer handing on its input: what the layers do by themselves is left to hooks."""
    gone = [layer.module for number, layer in enumerate(encoder_layers(model)) if number not in kept]
    given: dict[Any, torch.Tensor] = {}

    def remember(module: Any, args: Any, options: Any) -> None:
        given[module] = args[0] if args else options["hidden_states"]

    hooks = [module.register_forward_pre_hook(remember, with_kwargs=True) for module in gone]
    hooks += [
        module.register_forward_hook(lambda module, args, output: (given[module],) if isinstance(output, tuple) else given[module])
        for module in gone
    ]
    with torch.no_grad():
        found = logits_of(model(**batch))
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("kept", CUTS, ids=str)
@pytest.mark.parametrize("pruned", [False, True])
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


def test_layers_are_numbered_anew(family: str) -> None:
    model, fresh = tiny.make_model(family), tiny.make_model(family, num_hidden_layers=2)
    keep_layers(model, [1, 2])
    numbers = [[getattr(part, "layer_idx", None) for part in one.modules()] for one in (model, fresh)]
    assert numbers[0] == numbers[1]
    encoder = find_submodule(model, family_of(family).encoder)
    assert getattr(getattr(encoder, "transformer", None), "n_layers", 2) == 2


def test_a_pruned_layer_that_goes_takes_its_entry_along() -> None:
    model = tiny.make_model()
    everything = Kept(list(range(tiny.HEADS)), list(range(tiny.FFN)))
    slice_model(model, [everything, Kept([1], [2]), everything])
    keep_layers(model, [0, 2])
    assert not hasattr(model.config, CONFIG_KEY)  # what is left is what the config says


@pytest.mark.parametrize("kept", [[], [1, 0], [0, 0], [-1], [3]], ids=str)
def test_layers_that_are_not_there_are_refused(kept: list[int]) -> None:
    with pytest.raises(UsageError, match="from 0 to 2"):
        keep_layers(tiny.make_model(), kept)
