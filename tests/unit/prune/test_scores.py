"""Scores against closed forms, and against gradients computed another way."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from compress.prune.scores import GateGradients, LayerScores, gate_gradients
from compress.prune.search import Kept
from compress.prune.surgery import columns, slice_model
from tests import tiny

CPU = torch.device("cpu")
KEPT = [Kept([0, 2, 3], [*range(20)]), Kept([], [5, 6]), Kept([1], [])]


def model_of(family: str, pruned: bool = False, seed: int = 0) -> Any:
    """Return a model in double precision, in evaluation mode, so that gradients are exact."""
    model = tiny.make_model(family, seed=seed)
    if pruned:
        slice_model(model, KEPT)
    return model.double()


def losses(model: Any, positions: Any, family: str) -> torch.Tensor:
    """Return the cross-entropy of each example, (batch,)."""
    data = tiny.encoded(family, 12, pairs=True)
    logits = model(**to_tensors(data.batch(positions), model, CPU)).logits
    return functional.cross_entropy(logits, torch.from_numpy(data.labels)[positions], reduction="none")


def scored(model: Any, family: str, batches: list[Any]) -> list[LayerScores]:
    """Score by the function under test."""
    return squares_of(gate_gradients(model, batches, lambda positions: losses(model, positions, family).sum()))


def squares_of(gradients: list[GateGradients]) -> list[LayerScores]:
    """Sum the squares over examples: the diagonal of the gates' Fisher information."""
    return [LayerScores(layer.heads.double().square().sum(0), layer.neurons.double().square().sum(0)) for layer in gradients]


def gates(model: Any) -> tuple[list[list[torch.Tensor]], list[Any]]:
    """Multiply every unit's activations by a gate of one; returns the gates of each layer and the hooks."""
    found, hooks = [], []
    for layer in encoder_layers(model):
        heads = layer.attention_output.in_features // tiny.HEAD_SIZE
        pair = [
            torch.ones(heads, dtype=torch.float64, requires_grad=True),
            torch.ones(layer.ffn_out.in_features, dtype=torch.float64, requires_grad=True),
        ]
        found.append(pair)

        def gate_heads(module: Any, args: Any, gate: torch.Tensor = pair[0]) -> Any:
            return (args[0] * gate.repeat_interleave(tiny.HEAD_SIZE),)

        def gate_neurons(module: Any, args: Any, gate: torch.Tensor = pair[1]) -> Any:
            return (args[0] * gate,)

        hooks += [layer.attention_output.register_forward_pre_hook(gate_heads), layer.ffn_out.register_forward_pre_hook(gate_neurons)]
    return found, hooks


@pytest.mark.parametrize("pruned", [False, True])
def test_a_score_is_the_gradient_of_a_gate_example_by_example(family: str, pruned: bool) -> None:
    """d loss / d gate of a unit is its sum over tokens of a . dL/da; taken of each example alone, unpadded."""
    model = model_of(family, pruned)
    found, hooks = gates(model)
    expected = [[torch.zeros_like(gate) for gate in pair] for pair in found]
    for example in range(12):
        loss = losses(model, [example], family).sum()
        for pair, total in zip(found, expected, strict=True):
            for gate, sums in zip(pair, total, strict=True):
                if gate.numel():
                    sums += torch.autograd.grad(loss, gate, retain_graph=True)[0].square()
    for hook in hooks:
        hook.remove()
    for layer, (heads, neurons) in zip(scored(model, family, [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9, 10, 11]]), expected, strict=True):
        torch.testing.assert_close(layer.heads, heads, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(layer.neurons, neurons, rtol=1e-6, atol=1e-9)


def test_a_score_is_the_slope_of_the_loss_when_a_unit_fades() -> None:
    """Finite differences: L(gate = 1 + h) - L(gate = 1 - h), over 2 h, of each example."""
    model, step = model_of("bert"), 1e-5
    found = scored(model, "bert", [list(range(12))])
    gated, _ = gates(model)
    for layer, part, unit in ((0, 0, 1), (1, 0, 3), (2, 0, 0), (0, 1, 7), (1, 1, 63), (2, 1, 20)):
        gate = gated[layer][part].detach()
        slopes = torch.zeros(12, dtype=torch.float64)
        for sign in (1, -1):
            gate[unit] = 1 + sign * step
            with torch.no_grad():
                slopes += sign * losses(model, list(range(12)), "bert") / (2 * step)
            gate[unit] = 1
        score = (found[layer].heads if part == 0 else found[layer].neurons)[unit]
        assert float(score) == pytest.approx(float(slopes.square().sum()), rel=1e-4)


@pytest.mark.parametrize("batches", [[[number] for number in range(12)], [list(range(12))], [[11, 0], [3, 2, 1], list(range(4, 11))]])
def test_a_score_does_not_depend_on_the_batches(batches: list[Any]) -> None:
    model = model_of("bert")
    expected = scored(model, "bert", [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]])
    for first, second in zip(scored(model, "bert", batches), expected, strict=True):
        torch.testing.assert_close(first.heads, second.heads, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(first.neurons, second.neurons, rtol=1e-6, atol=1e-9)


def test_effects_of_opposite_sign_do_not_cancel() -> None:
    """An example and its mirror image (the loss negated): the signed sum is zero, the score is not."""
    model = model_of("bert")

    def mirrored(sign: float) -> torch.Tensor:
        return sign * losses(model, [0], "bert").sum()

    once = squares_of(gate_gradients(model, [1.0], mirrored))
    both = squares_of(gate_gradients(model, [1.0, -1.0], mirrored))
    for first, second in zip(once, both, strict=True):
        torch.testing.assert_close(2 * first.heads, second.heads)
        torch.testing.assert_close(2 * first.neurons, second.neurons)


def test_a_unit_that_does_nothing_scores_nothing(family: str) -> None:
    model = model_of(family)
    for layer in encoder_layers(model):
        with torch.no_grad():
            layer.attention_output.weight[:, columns([2], tiny.HEAD_SIZE)] = 0
            for linear in (layer.query, layer.key, layer.value):
                linear.weight[columns([2], tiny.HEAD_SIZE)] = 0
            layer.ffn_out.weight[:, 9] = 0
            layer.ffn_in.weight[9] = 0
    for layer in scored(model, family, [list(range(12))]):
        assert layer.heads[2] == layer.neurons[9] == 0
        assert (layer.heads.nonzero().numel(), layer.neurons.nonzero().numel()) == (tiny.HEADS - 1, tiny.FFN - 1)


def test_scoring_leaves_the_model_as_it_was(family: str) -> None:
    model = model_of(family, pruned=True)
    frozen = next(iter(model.classifier.parameters()))
    frozen.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    scored(model, family, [[0, 1]])
    with pytest.raises(RuntimeError, match="stop here"):
        gate_gradients(model, [0], lambda batch: (_ for _ in ()).throw(RuntimeError("stop here")))
    assert [parameter.requires_grad for parameter in model.parameters()] == [parameter is not frozen for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(not module._forward_hooks for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_gate_of_shared_weights_is_in_all_their_layers() -> None:
    """The gradient of one gate on a unit of every use is that of its columns in the output projections, each times its weight."""
    model = model_of("albert")
    (example,) = gate_gradients(model, [[0]], lambda positions: losses(model, positions, "albert").sum())[:1]
    layer = next(encoder_layers(model))
    losses(model, [0], "albert").sum().backward()
    for linear, found in ((layer.attention_output, example.heads), (layer.ffn_out, example.neurons)):
        assert linear.weight.grad is not None
        by_column = (linear.weight * linear.weight.grad).sum(0)
        torch.testing.assert_close(found[0], by_column.reshape(found.shape[1], -1).sum(1).float(), rtol=1e-4, atol=1e-6)
