"""The map of an embedder's vectors: what a matrix moved comes back, and nothing is kept that does not help."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from compress.distill.teacher_outputs import TeacherOutputs
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model, save_model
from compress.models.embedder import head_of, vector_size
from compress.models.sentence_head import DenseStep
from compress.prune.vector_map import VectorPairs, fit_map, refit_vector_map
from tests import tiny

CPU = torch.device("cpu")
SIZE = 6


def pairs(count: int, seed: int, matrix: torch.Tensor) -> VectorPairs:
    own = torch.randn(count, SIZE, generator=torch.Generator().manual_seed(seed))
    return VectorPairs(own, torch.nn.functional.normalize(own @ matrix, dim=1))


def test_a_matrix_is_found_from_normalised_vectors() -> None:
    matrix = torch.eye(SIZE) + 0.4 * torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    found, losses = fit_map(pairs(400, 1, matrix), pairs(100, 2, matrix), normalized=True)
    assert losses["after"] < 0.05 * losses["before"]
    assert found.shape == (SIZE, SIZE)


def test_few_vectors_move_nothing() -> None:
    """The identity stays where no matrix is better on held-out texts."""
    noise, others = pairs(3, 1, torch.eye(SIZE)), pairs(100, 2, torch.eye(SIZE))
    noise.dense = torch.nn.functional.normalize(torch.randn(3, SIZE, generator=torch.Generator().manual_seed(3)), dim=1)
    others.dense = torch.nn.functional.normalize(others.pruned, dim=1)
    found, losses = fit_map(noise, others, normalized=True)
    assert losses["after"] == losses["before"]
    assert torch.equal(found, torch.eye(SIZE))


@pytest.mark.parametrize("normalize", [True, False])
def test_an_embedder_gets_its_vectors_back(tmp_path: Path, normalize: bool) -> None:
    """By a new dense layer, and the second time by the same one."""
    folder = tiny.write_embedder(tmp_path / "model", normalize=normalize)
    model, data = load_model(folder), tiny.encoded(count=200)
    batches = [np.arange(start, start + 20) for start in range(0, 200, 20)]
    for seed in (0, 1):
        own = run_batches(torch_forward(model), data)
        rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(vector_size(model),) * 2))[0].astype(np.float32)
        losses = refit_vector_map(model, data, batches, TeacherOutputs(own @ rotation, None, data.starts), CPU)
        assert losses["after"] < 0.2 * losses["before"]
        mapped = run_batches(torch_forward(model), data)
        assert np.square(mapped - own @ rotation).sum() < 0.2 * np.square(own - own @ rotation).sum()
    assert [isinstance(step, DenseStep) for step in head_of(model.config).steps] == [True, False][: 1 + normalize]
    (tmp_path / "saved").mkdir()
    save_model(model, tmp_path / "saved", folder)
    np.testing.assert_allclose(run_batches(torch_forward(load_model(tmp_path / "saved")), data), mapped, atol=1e-5)


def test_an_activation_ends_what_a_matrix_can_do(tmp_path: Path) -> None:
    model = load_model(tiny.write_embedder(tmp_path / "model", dense=9))
    assert refit_vector_map(model, tiny.encoded(), [], TeacherOutputs(np.zeros((0, 9)), None, np.zeros(1)), CPU) == {}
