"""The training loop on tiny models."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from compress.core import console
from compress.core.errors import Diverged
from compress.models.device import to_tensors
from compress.models.layers import encoder_layers
from compress.settings import FinetuneSettings
from compress.training.learning_rate import warmup_linear_decay
from compress.training.loop import Loss, TrainingPlan, fit
from tests import tiny

CPU = torch.device("cpu")
FAST = {"precision": "fp32", "device": "cpu", "batch_size": 8, "lr": 1e-3}


def train(
    model: Any, seed: int = 0, validate: Any = None, loss: Any = None, extra: Any = (), count: int = 24, before_step: Any = None,
    lr_option: str = "--lr", **settings: Any,
) -> Any:  # fmt: skip
    """Fit a model on tiny sentences by cross-entropy."""
    data = tiny.encoded(model.config.model_type, count)
    labels = torch.from_numpy(data.labels)

    def loss_of(batch: Any, positions: np.ndarray) -> torch.Tensor:
        return functional.cross_entropy(model(**batch).logits, labels[positions])

    options = FinetuneSettings(**{**FAST, "epochs": 1, **settings})
    return fit(
        model, data, Loss(loss or loss_of, extra, before_step=before_step), TrainingPlan(options, seed, lr_option=lr_option), validate
    )


def weights(model: Any) -> dict[str, torch.Tensor]:
    """Return a copy of a model's weights."""
    return copy.deepcopy(model.state_dict())


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Return whether two sets of weights are bit-identical."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_optimizer_follows_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    original = torch.optim.AdamW.step

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        assert len({group["lr"] for group in self.param_groups}) == 1
        seen.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    train(tiny.make_model(), epochs=2, warmup=0.5, lr=1e-2)
    assert seen == pytest.approx([1e-2 * warmup_linear_decay(step, 6, 0.5) for step in range(6)])


def test_biases_and_norms_do_not_decay(family: str) -> None:
    """With a gradient of zero AdamW only multiplies: matrices by (1 - lr * decay), biases and LayerNorms by one."""
    model = tiny.make_model(family)
    before = weights(model)
    zero = lambda batch, positions: 0.0 * sum(p.sum() for p in model.parameters())  # noqa: E731
    train(model, loss=zero, weight_decay=0.5, warmup=0.0, lr=0.1, count=8)
    parameters = {name for name, _ in model.named_parameters()}
    for name, tensor in weights(model).items():
        if name in parameters:
            torch.testing.assert_close(tensor, before[name] * (1 - 0.1 * 0.5 * (tensor.ndim > 1)), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops(value: float) -> None:
    model = tiny.make_model()
    calls = 0

    def loss(batch: Any, positions: np.ndarray) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return model(**batch).logits.sum() * 0 + (value if calls == 5 else 1.0)

    with pytest.raises(Diverged, match=r"in epoch 2, step 5") as caught:
        train(model, loss=loss, epochs=3)
    assert caught.value.exit_code == 7
    assert "lower the learning rate (it was 0.001)" in (caught.value.hint or "")
    assert calls == 5


def test_no_step_is_taken_on_a_gradient_that_is_not_finite() -> None:
    """Not even in the last step, whose loss is finite."""
    model = tiny.make_model()
    before = weights(model)

    def loss(batch: Any, positions: np.ndarray) -> torch.Tensor:
        return (model(**batch).logits.sum() * 0).sqrt()  # 0, where the slope is infinite: 0 times infinity is nan

    with pytest.raises(Diverged, match="the gradient became nan in epoch 1, step 1"):
        train(model, loss=loss, count=8)
    assert equal(weights(model), before)


def test_before_step_gets_the_number_of_each_step() -> None:
    steps: list[int] = []
    train(tiny.make_model(), before_step=steps.append, epochs=2)
    assert steps == list(range(6))


def test_the_hint_names_the_option_that_sets_the_learning_rate() -> None:
    model = tiny.make_model()
    with pytest.raises(Diverged) as caught:
        train(model, loss=lambda batch, positions: model(**batch).logits.sum() * math.nan, lr_option="--layer-lr", count=8)
    assert "--layer-lr 0.0003" in (caught.value.hint or "")


def test_a_diverged_model_gets_its_modules_back() -> None:
    model = tiny.make_model()
    with pytest.raises(Diverged):
        train(model, loss=lambda batch, positions: model(**batch).logits.sum() * math.nan)
    assert not [module for module in model.modules() if type(module).__name__ == "ByteDropout"]


def scored(model: Any, scores: list[float], snapshots: list[dict[str, torch.Tensor]]) -> Any:
    """Return a `validate` that returns `scores` in turn and keeps a copy of the weights each time."""
    remaining = iter(scores)

    def validate() -> float:
        assert not model.training
        snapshots.append(weights(model))
        return next(remaining)

    return validate


@pytest.mark.parametrize(
    ("scores", "best"),
    [([0.5, 0.9, 0.1], 2), ([0.9, 0.5, 0.1], 1), ([0.1, 0.5, 0.9], 3), ([0.7, 0.7, 0.7], 1), ([0.0, 0.0, 0.0], 1), ([-2, -1, -3], 2)],
)
def test_the_best_epoch_is_kept(scores: list[float], best: int) -> None:
    model = tiny.make_model()
    snapshots: list[dict[str, torch.Tensor]] = []
    result = train(model, validate=scored(model, scores, snapshots), epochs=3)
    assert (result.best_epoch, result.score, result.epochs, result.steps) == (best, scores[best - 1], 3, 9)
    assert equal(weights(model), snapshots[best - 1])
    assert not equal(snapshots[0], snapshots[1])
    assert not model.training


def test_without_validation_the_last_epoch_is_kept() -> None:
    model = tiny.make_model()
    result = train(model, epochs=2)
    assert (result.best_epoch, result.epochs, result.score) == (2, 2, None)


@pytest.mark.parametrize(
    ("patience", "scores", "epochs"),
    [
        (1, [0.5, 0.4, 0.9], 2),
        (2, [0.5, 0.4, 0.3, 0.9], 3),
        (2, [0.5, 0.4, 0.6, 0.5, 0.5], 5),
        (None, [0.5, 0.4, 0.3], 3),
        (5, [0.5, 0.1], 2),
    ],
)
def test_patience(patience: int | None, scores: list[float], epochs: int) -> None:
    model = tiny.make_model()
    snapshots: list[dict[str, torch.Tensor]] = []
    result = train(model, validate=scored(model, scores, snapshots), epochs=len(scores), patience=patience, count=8)
    assert result.epochs == epochs
    assert equal(weights(model), snapshots[int(np.argmax(scores[:epochs]))])


def test_the_same_seed_gives_the_same_weights(family: str) -> None:
    models = [tiny.make_model(family) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.manual_seed(99 + len(weights(model)) * seed)  # earlier draws must not matter
        train(model, seed=seed, epochs=2)
    assert equal(weights(models[0]), weights(models[1]))
    assert not equal(weights(models[0]), weights(models[2]))


def test_training_learns(family: str) -> None:
    model = tiny.make_model(family)
    result = train(model, epochs=10, lr=3e-3, count=30)
    assert result.loss < 0.75 * math.log(3)


def test_frozen_embeddings_do_not_change(family: str) -> None:
    model = tiny.make_model(family)
    before = weights(model)
    train(model, freeze_embeddings=True)
    changed = {name for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])}
    embeddings = {name for name in before if ".embeddings." in name}
    assert embeddings
    assert not changed & embeddings
    assert {name for name in before if "layer.0" in name} <= changed


def test_the_parameters_of_the_loss_are_trained_too() -> None:
    model = tiny.make_model()
    extra = nn.Linear(3, 1)
    before = weights(extra)
    train(model, extra=list(extra.parameters()), loss=lambda batch, positions: extra(model(**batch).logits).square().mean())
    assert not equal(weights(extra), before)


def test_gradients_are_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    original = torch.optim.AdamW.step

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    model = tiny.make_model()
    train(model, loss=lambda batch, positions: 1e4 * model(**batch).logits.square().sum(), max_grad_norm=0.25)
    assert norms == pytest.approx([0.25] * 3, rel=1e-3)


def test_every_example_is_seen_once_an_epoch() -> None:
    model = tiny.make_model()
    seen: list[int] = []

    def loss(batch: Any, positions: np.ndarray) -> torch.Tensor:
        seen.extend(positions.tolist())
        assert batch["input_ids"].shape[0] == len(positions)
        return model(**batch).logits.sum()

    train(model, loss=loss, epochs=2, count=19)
    assert sorted(seen[:19]) == sorted(seen[19:]) == list(range(19))
    assert seen[:19] != seen[19:]


def test_epochs_are_events() -> None:
    events: list[dict[str, Any]] = []
    with console.observed(events.append):
        train(tiny.make_model(), epochs=2)
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["epoch"] for event in epochs] == [1, 2]
    assert all(math.isfinite(event["loss"]) and event["score"] is None for event in epochs)


def test_result_is_a_document() -> None:
    result = train(tiny.make_model())
    assert result.as_json() == {
        "epochs": 1, "steps": 3, "best_epoch": 1, "loss": result.loss, "score": None, "precision": "fp32", "seconds": result.seconds,
    }  # fmt: skip


def test_tensors_are_those_that_the_family_accepts(family: str) -> None:
    tensors = to_tensors(tiny.encoded(family).batch([0, 1]), tiny.make_model(family), CPU)
    assert ("token_type_ids" in tensors) == (family not in ("distilbert", "mpnet"))
    assert {"input_ids", "attention_mask"} <= set(tensors)


def test_pruned_models_train(family: str) -> None:
    from compress.prune.search import Kept
    from compress.prune.surgery import slice_model

    model = tiny.make_model(family)
    slice_model(model, [Kept([0], [1, 2]), Kept([], []), Kept([], [3])])
    before = weights(model)
    train(model)
    changed = [name for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])]
    assert len(changed) > 0.8 * len([name for name in before if before[name].numel()])
    assert len(list(encoder_layers(model))) == tiny.LAYERS


def test_progress_names_the_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(console, "info", lines.append)
    data, model = tiny.encoded(count=8), tiny.make_model()
    labels = torch.from_numpy(data.labels)
    loss = Loss(lambda batch, positions: functional.cross_entropy(model(**batch).logits, labels[positions]))
    fit(model, data, loss, TrainingPlan(FinetuneSettings(**{**FAST, "epochs": 1}), 0, metric="accuracy"), lambda: 0.5)
    assert "validation accuracy 50.00" in lines[0]
