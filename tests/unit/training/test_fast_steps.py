"""`fast_steps` restores the model and keeps its logits; `ByteDropout` drops the right share."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compress.inference.forward import torch_forward
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.training.fast_steps import ByteDropout, fast_steps
from tests import tiny

CPU = torch.device("cpu")


def dropout(probability: float, seed: int = 0) -> ByteDropout:
    """Return a dropout in training mode."""
    return ByteDropout(probability, np.random.default_rng(seed)).train()


@pytest.mark.parametrize("probability", [0.05, 0.1, 0.3, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(probability: float) -> None:
    dropped = dropout(probability)(torch.ones(1000, 1000))
    share = round(256 * probability) / 256
    kept = dropped[dropped != 0]
    assert float((dropped == 0).float().mean()) == pytest.approx(share, abs=0.003)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.005)
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - share)))


def test_dropout_of_zero_and_in_evaluation_is_the_identity() -> None:
    values = torch.randn(5, 7)
    assert dropout(0.0)(values) is values
    assert dropout(0.001)(values) is values  # less than half a 256th
    assert dropout(0.5).eval()(values) is values


def test_dropout_masks_differ_and_depend_on_the_seed() -> None:
    ones = torch.ones(64, 64)
    first, second = dropout(0.5), dropout(0.5)
    a, b = first(ones), first(ones)
    assert not torch.equal(a, b)
    assert torch.equal(second(ones), a)
    assert not torch.equal(dropout(0.5, seed=1)(ones), a)


def test_only_kept_values_have_a_gradient() -> None:
    values = torch.randn(50, 50, requires_grad=True)
    dropped = dropout(0.25)(values)
    dropped.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.where(dropped != 0, 256 / 192, 0.0))


def snapshot(model: Any) -> Any:
    """Return everything that `fast_steps` could change: modules by identity, probabilities, modes, implementation."""
    modules = [(name, id(module), module.training) for name, module in model.named_modules()]
    probabilities = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    return modules, probabilities, model.config._attn_implementation, copy.deepcopy(model.config.to_dict())


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_restored_exactly(family: str, training: bool, fails: bool) -> None:
    model = tiny.make_model(family).train(training)
    slice_model(model, [Kept([0], [1]), Kept([], []), Kept([1, 2], [2])])
    before, state = snapshot(model), copy.deepcopy(model.state_dict())
    try:
        with fast_steps(model, CPU, 0):
            assert snapshot(model) != before
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert snapshot(model) == before
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_modes_changed_inside_stay_changed() -> None:
    model = tiny.make_model().eval()
    with fast_steps(model, CPU, 0):
        model.train()
    assert all(module.training for module in model.modules())


def test_evaluation_inside_gives_the_same_logits(family: str) -> None:
    model = tiny.make_model(family)
    slice_model(model, [Kept([0, 3], [1, 5]), Kept([], []), Kept([1, 2], [2])])
    batch = tiny.encoded(family, pairs=True).batch(range(12))
    expected = torch_forward(model)(batch)
    with fast_steps(model, CPU, 0):
        model.eval()
        np.testing.assert_allclose(torch_forward(model)(batch), expected, atol=1e-5)
    np.testing.assert_array_equal(torch_forward(model)(batch), expected)


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_is_kept_inside(training: bool) -> None:
    model = tiny.make_model().train(training)
    with fast_steps(model, CPU, 0):
        assert {module.training for module in model.modules()} == {training}


def test_training_inside_drops_hidden_states_by_the_configs_probability(family: str) -> None:
    model = tiny.make_model(family)
    with fast_steps(model, CPU, 0):
        replaced = [module for module in model.modules() if isinstance(module, ByteDropout)]
        assert replaced
        assert all(module.threshold in {round(0.1 * 256), round(0.2 * 256)} for module in replaced)  # DistilBERT's head: 0.2
        plain = [module for module in model.modules() if isinstance(module, nn.Dropout)]
        assert len(plain) == tiny.LAYERS  # those of the attention
        assert {module.p for module in plain} == {0.0}


def test_a_gpu_keeps_its_fused_kernels() -> None:
    model = tiny.make_model()
    before = snapshot(model)
    with fast_steps(model, torch.device("cuda"), 0):
        assert snapshot(model) == before
