"""Gradients of a loss by activations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from compress.editing.gradients import activation_gradients, dropout_disabled, preserved_requires_grad
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from tests import tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize("outputs", [False, True])
def test_gradients_predict_the_effect_of_a_small_change(outputs: bool) -> None:
    """A finite difference: adding a small offset to an activation changes the loss by gradient times offset."""
    model = tiny.make_model().double()
    batch = to_tensors(tiny.encoded().batch(range(4)), model, CPU)
    linear = next(encoder_layers(model)).ffn_out  # nothing else reads its input

    def loss_of(inputs: Any) -> torch.Tensor:
        return model(**inputs).logits.square().sum()

    ((state, gradient),) = next(activation_gradients(model, [linear], [batch], loss_of, outputs))
    assert state.shape[-1] == tiny.FFN
    assert gradient.shape[-1] == (tiny.HIDDEN if outputs else tiny.FFN)
    step, losses = 1e-5 * torch.randn(gradient.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), []
    for sign in (1, -1):
        offset = sign * step
        if outputs:
            hook = linear.register_forward_hook(lambda module, args, output, offset=offset: output + offset)
        else:
            hook = linear.register_forward_pre_hook(lambda module, args, offset=offset: (args[0] + offset,))
        losses.append(float(loss_of(batch).detach()))
        hook.remove()
    assert (losses[0] - losses[1]) / 2 == pytest.approx(float((gradient * step).sum()), rel=1e-4)


def test_gradients_are_zero_where_the_loss_does_not_depend_on_it() -> None:
    model = tiny.make_model()
    batch = to_tensors(tiny.encoded().batch(range(4)), model, CPU)
    first, *_, last = encoder_layers(model)
    captured: list[torch.Tensor] = []
    hook = first.ffn_out.register_forward_hook(lambda module, args, output: captured.append(output))

    def loss_of(inputs: Any) -> torch.Tensor:
        model(**inputs)
        return captured[-1].square().sum()

    (early, late) = next(activation_gradients(model, [first.ffn_in, last.ffn_in], [batch], loss_of))
    hook.remove()
    assert early[1].abs().max() > 0
    assert late[1].abs().max() == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_requires_grad_is_restored() -> None:
    model = tiny.make_model()
    model.classifier.weight.requires_grad_(False)
    before = [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(RuntimeError), preserved_requires_grad(model):
        model.requires_grad_(True)
        raise RuntimeError
    assert [parameter.requires_grad for parameter in model.parameters()] == before


def test_dropout_is_off_and_comes_back() -> None:
    model = tiny.make_model(hidden_dropout_prob=0.3).train()
    before = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert max(before) == 0.3
    with dropout_disabled(model):
        assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.0}
    assert [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)] == before
