"""The readout refit of embedders: what was changed in the last weights comes back, and nothing is kept that does not help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compress.distill.teacher_outputs import TeacherOutputs
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.prune.readout_refit import readout_parameters, refit_readout
from tests import tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize(("pooling", "dense"), [(("mean", "mean_sqrt_len"), 0), (("lasttoken",), 0), (("max",), 9)])
def test_the_readout_is_fitted_to_the_dense_vectors(tmp_path: Path, pooling: tuple[str, ...], dense: int) -> None:
    model = load_model(tiny.write_embedder(tmp_path / "model", "bert", pooling, dense))
    data = tiny.encoded(count=60)
    expected = run_batches(torch_forward(model), data)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in readout_parameters(model):
            parameter.add_(0.3 * torch.randn_like(parameter))
    batches = [np.arange(start, start + 10) for start in range(0, 60, 10)]
    errors = refit_readout(model, data, batches, TeacherOutputs(expected, None, data.starts), CPU)
    assert errors["after"] < 0.05 * errors["before"]
    moved = run_batches(torch_forward(model), data)
    assert np.square(moved - expected).sum() / np.square(expected).sum() < 0.05 * errors["before"] + 1e-6


def test_an_exact_readout_stays(tmp_path: Path) -> None:
    model = load_model(tiny.write_embedder(tmp_path / "model"))
    data = tiny.encoded(count=20)
    before = [parameter.detach().clone() for parameter in readout_parameters(model)]
    expected = run_batches(torch_forward(model), data)
    errors = refit_readout(model, data, [np.arange(10), np.arange(10, 20)], TeacherOutputs(expected, None, data.starts), CPU)
    assert errors["after"] <= errors["before"] < 1e-9
    for parameter, old in zip(readout_parameters(model), before, strict=True):
        assert torch.allclose(parameter, old, atol=1e-4)


def test_the_gain_before_a_maximum_is_not_fitted(tmp_path: Path) -> None:
    model = load_model(tiny.write_embedder(tmp_path / "model", pooling=("max",)))
    data = tiny.encoded(count=20)
    outputs = TeacherOutputs(run_batches(torch_forward(model), data), None, data.starts)
    assert refit_readout(model, data, [np.arange(20)], outputs, CPU) == {}
