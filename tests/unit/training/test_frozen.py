"""Training a head on cached hidden states is training it on the whole model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from compress.core.errors import ResourceError
from compress.data.encoded_lists import group_inputs
from compress.inference.batches import run_batches
from compress.inference.forward import torch_forward
from compress.models.checkpoint import load_model
from compress.models.family import family_of
from compress.models.layers import find_submodule
from compress.models.task_loss import logits_of, task_loss
from compress.settings import FinetuneSettings
from compress.training import frozen
from compress.training.frozen import cached_states
from compress.training.loop import Loss, TrainingPlan, fit
from compress.training.trainable import head_modules, train_only
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture(params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Every family: each has its own head."""
    return request.param


@pytest.mark.parametrize(("family", "target"), tiny.FAMILY_TARGETS)
def test_logits_from_cached_states_are_those_of_the_whole_model(family: str, target: Any) -> None:
    model, data = tiny.make_model(family, target=target), tiny.encoded(family, 20)
    whole = run_batches(torch_forward(model), data)
    with cached_states(model, [data], target, CPU) as (seen,):
        cached = run_batches(torch_forward(model), seen, batch_size=7)
    np.testing.assert_allclose(cached, whole, atol=2e-2 if target in ("tags", "span") else 1e-5)
    np.testing.assert_array_equal(run_batches(torch_forward(model), data), whole)


def test_all_tokens_are_cached_in_float16_and_first_tokens_in_float32() -> None:
    data = tiny.encoded()
    with cached_states(tiny.make_model(target="tags"), [data], "tags", CPU) as (seen,):
        assert (seen.states.dtype, seen.states.shape) == (np.float16, (data.lengths.sum(), tiny.HIDDEN))
    with cached_states(tiny.make_model(), [data, data], "class", CPU) as (seen, _):
        assert (seen.states.dtype, seen.states.shape) == (np.float32, (len(data), tiny.HIDDEN))


@pytest.mark.parametrize("target", ["class", "tags"])
def test_training_on_states_is_training_the_head_of_the_whole_model(family: str, target: Any) -> None:
    """Without dropout both see the same batches in the same order and end with the same weights."""
    no_dropout = dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "seq_classif_dropout"), 0.0
    )
    data = tiny.encoded(family, 24)
    settings = FinetuneSettings.model_validate({"epochs": 3, "lr": 1e-2, "batch_size": 8, "precision": "fp32", "device": "cpu"})

    def trained(model: Any, seen: Any) -> dict[str, torch.Tensor]:
        def loss_of(batch: Any, positions: np.ndarray) -> torch.Tensor:
            labels = torch.from_numpy(data.labels[positions])
            if target == "tags":
                labels = labels[:, None].repeat(1, batch["attention_mask"].shape[1]).masked_fill(batch["attention_mask"] == 0, -100)
            return task_loss(logits_of(model(**batch)), labels, batch["attention_mask"], target)

        fit(model, seen, Loss(loss_of), TrainingPlan(settings, seed=1))
        return model.state_dict()

    whole, model = (tiny.make_model(family, target=target, **no_dropout) for _ in range(2))
    before = model.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    train_only(whole, head_modules(whole, target))
    expected = trained(whole, data)
    with cached_states(model, [data], target, CPU) as (seen,):
        actual = trained(model, seen)
    head = family_of(family).head_parts(target)
    for name, tensor in actual.items():
        if name.startswith(head):
            assert not torch.equal(tensor, before[name])
            torch.testing.assert_close(tensor, expected[name], atol=1e-2 if target == "tags" else 1e-4, rtol=1e-3)
        else:
            assert torch.equal(tensor, before[name])


def test_the_encoder_is_restored_after_an_error() -> None:
    model, data = tiny.make_model(), tiny.encoded()
    encoder = find_submodule(model, "bert")
    with pytest.raises(RuntimeError), cached_states(model, [data], "class", CPU):
        assert "forward" in vars(encoder)
        raise RuntimeError
    assert "forward" not in vars(encoder)


def test_states_larger_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny.encoded()
    bytes_of = {"class": 4 * len(data) * tiny.HIDDEN, "tags": 2 * int(data.lengths.sum()) * tiny.HIDDEN}
    for target, needed in bytes_of.items():
        model: Any = tiny.make_model(target=target)
        monkeypatch.setattr(frozen.psutil, "virtual_memory", lambda needed=needed: SimpleNamespace(available=2 * needed))
        with cached_states(model, [data], target, CPU):  # pyright: ignore[reportArgumentType]
            pass
        monkeypatch.setattr(frozen.psutil, "virtual_memory", lambda needed=needed: SimpleNamespace(available=2 * needed - 2))
        with pytest.raises(ResourceError, match="mode frozen caches") as caught, cached_states(model, [data], target, CPU):  # pyright: ignore[reportArgumentType]
            pass
        assert "--mode lora" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("family", "pooling"), [("bert", ("mean",)), ("mpnet", ("max", "weightedmean")), ("distilbert", ("cls", "mean_sqrt_len", "lasttoken"))]
)
def test_vectors_from_cached_states_are_those_of_the_whole_embedder(family: str, pooling: tuple[str, ...], tmp_path: Path) -> None:
    """Also those of lists of inputs, of which each distinct one is computed once."""
    model, data = load_model(tiny.write_embedder(tmp_path / "model", family, pooling, dense=12)), tiny.encoded(family, 20)
    whole = run_batches(torch_forward(model), data)
    rows = np.array([[3, 0], [3, 7], [19, 3]])
    with cached_states(model, [data, group_inputs(data, rows, np.zeros(3))], "vector", CPU) as (seen, lists):
        np.testing.assert_allclose(run_batches(torch_forward(model), seen, batch_size=7), whole, atol=1e-5)
        np.testing.assert_allclose(torch_forward(model)(lists.batch([2, 0])), whole[rows[[2, 0]].ravel()], atol=1e-5)
        assert len(lists.states) == 4
        assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == 12 * (32 * len(pooling) + 1)
    np.testing.assert_array_equal(run_batches(torch_forward(model), data), whole)
