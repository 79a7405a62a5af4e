"""The loss of a batch in distillation."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from compress.data.encoded_lists import group_in_lists
from compress.distill import teacher_outputs as module
from compress.distill.distillation_loss import DistillationLoss, create_projections
from compress.distill.layer_matching import LayerMatch, match_layers
from compress.distill.losses import hidden_mse, soft_cross_entropy
from compress.distill.losses_vectors import listwise_kl, margin_mse
from compress.distill.students import take_layers
from compress.distill.teacher_outputs import compute_teacher_outputs
from compress.distill.training_data import TrainingData
from compress.models.checkpoint import load_model
from compress.models.device import to_tensors
from compress.models.label_mapping import to_model_labels
from compress.models.layers import layer_list
from compress.models.model_shape import model_shape
from compress.settings import DistillSettings
from tests import tiny
from tests.conftest import FAMILIES

CPU = torch.device("cpu")
LAYERED = ["hidden", "nmse", "attention", "relations", "gram", "pkd", "cka", "cofi"]


def test_projections_are_learned_if_widths_differ() -> None:
    wide, narrow = tiny.make_model(), tiny.make_model("bert", hidden_size=16, num_attention_heads=2)
    pairs = [LayerMatch("hidden", 1.0, 3, 3), LayerMatch("gram", 1.0, 3, 3), LayerMatch("pkd", 1.0, 2, 1)]
    assert not list(create_projections(wide, wide, pairs).parameters())
    assert [tuple(parameter.shape) for parameter in create_projections(narrow, wide, pairs).parameters()] == [(32, 16)] * 2
    (start,) = create_projections(wide, wide, [LayerMatch("cofi", 1.0, teacher_layers=(3,), student_layers=(1, 2))]).parameters()
    assert torch.equal(start, torch.eye(32))


SETTINGS = [
    {"hard_weight": 0.0, "method": "logits"},
    {"hard_weight": 1.0, "method": "logits"},
    {"hard_weight": 0.3, "method": "logits", "temperature": 4.0},
    {"hard_weight": 0.3, "method": ["logits", "hidden:2"]},
    {"hard_weight": 0.3, "method": ["logits", "hidden:2"], "match": "uniform"},
]


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_loss_is_the_weighted_sum(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, Any], cached: bool) -> None:
    """Also if hidden states are computed in each step instead of cached (float16)."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path))
    if not cached:
        monkeypatch.setattr(module, "MAX_FEATURE_BYTES", -1)
    teacher, data = tiny.make_model(), tiny.encoded()
    student = take_layers(teacher, 2)
    options = DistillSettings(**settings)
    weight = options.losses.get("hidden")
    pairs = {"last": [(2, 3)], "uniform": [(1, 2), (2, 3)]}[options.match or "last"] if weight else []
    matched = match_layers(options, model_shape(teacher), model_shape(student))
    assert [(match.student, match.teacher) for match in matched] == pairs
    outputs = compute_teacher_outputs(teacher, "digest", data, [feature for match in matched for feature in match.teacher_features], CPU)
    assert (outputs.features is not None) == cached
    classes = np.array([2, 0, 1])  # the model's classes are in another order than the task's
    numbered = replace(data, labels=to_model_labels(data.labels, "class", classes))
    training_data = TrainingData(numbered, data, outputs, np.ones(len(data), dtype=bool), "class", True)
    loss_of = DistillationLoss(student, teacher, training_data, matched, options, CPU)
    positions = np.array([3, 0, 7, 11])
    batch = to_tensors(data.batch(positions), student, CPU)
    with torch.no_grad():
        loss = loss_of(batch, positions)
        small, large = (model(**batch, output_hidden_states=True) for model in (student, teacher))
    hard = functional.cross_entropy(small.logits, torch.tensor([{2: 0, 0: 1, 1: 2}[int(label)] for label in data.labels[positions]]))
    assert options.temperature is not None
    assert options.hard_weight is not None
    soft = soft_cross_entropy(small.logits, large.logits, options.temperature)
    hidden = [hidden_mse(small.hidden_states[a], large.hidden_states[b], batch["attention_mask"]) for a, b in pairs]
    expected = options.hard_weight * hard + (1 - options.hard_weight) * soft
    expected = expected + (weight * torch.stack(hidden).mean() if weight else 0)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("method", "family"), list(zip([*LAYERED, "logits"] * 2, cycle(FAMILIES), strict=False)))
def test_the_loss_is_zero_at_the_teacher_and_ignores_padding(method: str, family: str) -> None:
    """For every method, each with two families; the loss does not depend on the padded length."""
    teacher, data = tiny.make_model(family), tiny.encoded(family)
    settings = DistillSettings.model_validate(
        {"method": [f"{method}:1"], "hard_weight": 0.5} | ({} if method in ("logits", "cofi") else {"match": "uniform"})
    )
    for student, same in ((teacher, True), (tiny.make_model(family, seed=1), False)):
        pairs = match_layers(settings, model_shape(teacher), model_shape(student))
        outputs = compute_teacher_outputs(
            teacher, f"{family}-{method}", data, [feature for match in pairs for feature in match.teacher_features], CPU
        )
        training_data = TrainingData(data, data, outputs, np.ones(len(data), dtype=bool), "class", True)
        soft_only, terms = settings.model_copy(update={"hard_weight": 0.0}), "all" if method == "logits" else "layers"
        loss_of = DistillationLoss(student, teacher, training_data, pairs, soft_only, CPU, terms)
        positions = np.arange(6)
        losses = [float(loss_of(to_tensors(data.batch(positions, pad_to), student, CPU), positions).detach()) for pad_to in (None, 60)]
        assert losses[0] == pytest.approx(0, abs=1e-3) if same else losses[0] > 1e-3
        assert losses[1] == pytest.approx(losses[0], rel=1e-3, abs=1e-4)


def test_losses_of_layers_do_not_train_the_head() -> None:
    teacher, data = tiny.make_model(), tiny.encoded()
    student = take_layers(teacher, 2)
    settings = DistillSettings.model_validate({"method": "tinybert"})
    pairs = match_layers(settings, model_shape(teacher), model_shape(student))
    outputs = compute_teacher_outputs(teacher, "tb", data, [feature for match in pairs for feature in match.teacher_features], CPU)
    training_data = TrainingData(data, data, outputs, np.ones(len(data), dtype=bool), "class", True)
    loss_of = DistillationLoss(student, teacher, training_data, pairs, settings, CPU).restricted_to("layers")
    positions = np.arange(4)
    loss_of(to_tensors(data.batch(positions), student, CPU), positions).backward()
    assert student.classifier.weight.grad is None
    assert next(layer_list(student).parameters()).grad is not None


def test_lists_of_candidates_are_compared_list_by_list() -> None:
    """Of twelve pairs in three lists the loss of two lists is that of their eight logits; hidden states are matched pair by pair."""
    teacher, student, data = tiny.make_model(target="value"), tiny.make_model(target="value", seed=1), tiny.encoded(pairs=True)
    data = replace(data, labels=np.zeros(12, dtype=np.float32))
    options = DistillSettings(method=["margin_mse:2", "listwise", "nmse"], hard_weight=0.0, temperature=3.0)
    pairs = match_layers(options, model_shape(teacher), model_shape(student))
    outputs = compute_teacher_outputs(teacher, "lists", data, [feature for match in pairs for feature in match.teacher_features], CPU)
    training_data = TrainingData(data, data, outputs, np.ones(12, dtype=bool), "value", False, 4)
    positions, lists = np.array([2, 0]), group_in_lists(data, 4)
    assert len(lists) == 3
    batch = to_tensors(lists.batch(positions), student, CPU)
    with torch.no_grad():
        found = DistillationLoss(student, teacher, training_data, pairs, options, CPU)(batch, positions)
        layers = DistillationLoss(student, teacher, training_data, pairs, options, CPU, "layers")(batch, positions)
        scores = [model(**batch).logits.view(2, 4) for model in (student, teacher)]
    np.testing.assert_allclose(scores[1].ravel(), outputs.logits[[8, 9, 10, 11, 0, 1, 2, 3], 0], atol=1e-5)
    torch.testing.assert_close(found - layers, 2 * margin_mse(*scores) + listwise_kl(*scores, 3.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", [*LAYERED, "tinybert", "similarity"])
def test_embedders_match_hidden_states_and_vectors(method: str, tmp_path: Path) -> None:
    """Zero at the teacher, positive for another model of its shape, whatever the padding."""
    folders = [tiny.write_embedder(tmp_path / str(seed), "bert", ("mean", "max"), seed=seed) for seed in (0, 1)]
    teacher, data = load_model(folders[0]), tiny.encoded()
    losses = [] if method in ("tinybert", "similarity") else ["logits"]
    settings = DistillSettings.model_validate({"method": [*losses, method], "hard_weight": 0.0})
    for folder, same in zip(folders, (True, False), strict=True):
        student = load_model(folder)
        pairs = match_layers(settings, model_shape(teacher), model_shape(student))
        features = [feature for match in pairs for feature in match.teacher_features]
        outputs = compute_teacher_outputs(teacher, f"embedder-{method}", data, features, CPU)
        training_data = TrainingData(data, data, outputs, np.ones(len(data), dtype=bool), "vector", False)
        loss_of, positions = DistillationLoss(student, teacher, training_data, pairs, settings, CPU), np.arange(6)
        found = [float(loss_of(to_tensors(data.batch(positions, pad_to), student, CPU), positions).detach()) for pad_to in (None, 60)]
        assert found[0] == pytest.approx(0, abs=1e-3) if same else found[0] > 1e-3
        assert found[1] == pytest.approx(found[0], rel=1e-3, abs=1e-4)
