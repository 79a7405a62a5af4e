"""Recovery: the settings of the distillation, and its effect."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from compress.core.errors import Diverged
from compress.editing.width import narrow
from compress.prune import recovery as module
from compress.prune.joint_refit import STATES_WEIGHT, pruned_lr
from compress.prune.recovery import recover
from compress.training.learning_rate import default_lr
from tests import tiny
from tests.unit.prune.fakes import Maker, context_of, run


def test_recovery_distils_the_dense_model(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    plain = run(checkpoint(), tiny_task, tmp_path / "a", target_flops=0.3)
    recovered = run(checkpoint(), tiny_task, tmp_path / "b", target_flops=0.3, recover_epochs=1, recover_lr=1e-3)
    assert recovered["layers"] == plain["layers"]
    assert (tmp_path / "a" / "model.safetensors").read_bytes() != (tmp_path / "b" / "model.safetensors").read_bytes()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Any]]:
    """Record the training plan and the unlabeled texts instead of training."""
    recorded: list[tuple[Any, Any]] = []

    def train_student(student: Any, teachers: Any, task: Any, plan: Any, unlabeled: Any) -> Any:
        recorded.append((plan, unlabeled))
        return SimpleNamespace(training=SimpleNamespace(diverged=None))

    monkeypatch.setattr(module, "train_student", train_student)
    return recorded


def test_logits_and_the_states_of_every_layer_are_matched(
    tiny_task: dict[str, Any], checkpoint: Maker, calls: list[tuple[Any, Any]]
) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.3)
    model = copy.deepcopy(context.dense.model)
    recover(context, model, 2)
    ((plan, _),) = calls
    settings = plan.settings
    assert plan.lr_option == "--recover-lr"
    assert settings.epochs == 2
    assert settings.losses == {"logits": 1.0, "nmse": STATES_WEIGHT}
    assert settings.layers_matched == {"nmse": tuple((number, number) for number in range(1, tiny.LAYERS + 1))}
    assert settings.lr == pruned_lr(model)
    assert not settings.dropout


def test_a_narrower_model_matches_its_last_states_by_a_projection(
    tiny_task: dict[str, Any], checkpoint: Maker, calls: list[tuple[Any, Any]]
) -> None:
    context = context_of(checkpoint(), tiny_task, method="hidden", target_flops=0.3)
    model = copy.deepcopy(context.dense.model)
    narrow(model, list(range(16)))
    recover(context, model, 1)
    settings = calls[0][0].settings
    assert set(settings.losses) == {"logits", "hidden"}
    assert settings.lr == default_lr(model)


def test_no_epochs_change_nothing(tiny_task: dict[str, Any], checkpoint: Maker, calls: list[tuple[Any, Any]]) -> None:
    context = context_of(checkpoint(), tiny_task, target_flops=0.3)
    model = copy.deepcopy(context.dense.model)
    recover(context, model, 0)
    assert not calls
    assert all(torch.equal(tensor, context.dense.model.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_unlabeled_texts_are_distilled_on_too(
    tiny_task: dict[str, Any], checkpoint: Maker, calls: list[tuple[Any, Any]], tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("one text\nanother text", encoding="utf-8")
    context = context_of(checkpoint(), tiny_task, target_flops=0.3, unlabeled=str(tmp_path / "texts.txt"))
    recover(context, copy.deepcopy(context.dense.model), 1)
    unlabeled = calls[0][1]
    assert [text for (text,) in unlabeled.texts] == ["one text", "another text"]


def test_a_diverged_training_is_an_error(tiny_task: dict[str, Any], checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(training=SimpleNamespace(diverged=Diverged("the loss became nan")))
    monkeypatch.setattr(module, "train_student", lambda *args: failed)
    context = context_of(checkpoint(), tiny_task, target_flops=0.3)
    with pytest.raises(Diverged, match="became nan"):
        recover(context, copy.deepcopy(context.dense.model), 1)
