"""Progressive module replacement, method `theseus`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compress.core.errors import UsageError
from compress.distill.module_replacement import ModuleReplacement, replacement_probability
from compress.distill.students import take_layers
from compress.models.checkpoint import save_model
from compress.models.device import to_tensors
from compress.models.layers import layer_list
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.settings import DistillSettings
from compress.training.label_loss import loss_on_labels
from compress.training.loop import TrainingPlan, fit
from tests import tiny
from tests.unit.distill.helpers import inputs, run

Maker = Callable[..., Path]
CPU = torch.device("cpu")


def test_layers_are_mixed_and_the_student_ends_alone() -> None:
    assert [replacement_probability(step, 100) for step in (0, 25, 50, 99)] == pytest.approx([0.3, 0.65, 1.0, 1.0])
    teacher, data = tiny.make_model(), tiny.encoded()
    student = take_layers(teacher, 2)
    mixed = ModuleReplacement(student, teacher, 4, 0)
    assert [list(group) for group in mixed.groups] == [[0, 1], [2]]
    students, teachers = list(layer_list(student)), list(layer_list(teacher))
    assert mixed.mixed_layers([True, False]) == [students[0], teachers[2]]
    batch = to_tensors(data.batch(range(4)), student, CPU)
    with torch.no_grad():
        alone, whole = student(**batch).logits, teacher(**batch).logits
        mixed.from_student = [False, False]
        torch.testing.assert_close(mixed(**batch).logits, whole)
    assert list(layer_list(student)) == students
    ends = ModuleReplacement(student, teacher, 4, 0)
    ends.select_layers(3)
    with torch.no_grad():
        torch.testing.assert_close(ends(**batch).logits, alone)


def test_the_layers_of_a_step_depend_on_its_number_alone() -> None:
    teacher = tiny.make_model()
    first, second = (ModuleReplacement(take_layers(teacher, 2), teacher, 40, seed) for seed in (3, 3))
    second.select_layers(7)  # as a resumed process, or one without an example in the steps before
    drawn = []
    for step in range(8):
        first.select_layers(step)
        drawn.append(first.from_student)
    assert first.from_student == second.from_student
    assert len({tuple(chosen) for chosen in drawn}) > 1


def test_theseus_trains_the_student_and_not_the_teacher() -> None:
    teacher, data = tiny.make_model(), tiny.encoded("bert", 24)
    student = take_layers(teacher, 2)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    mixed, steps = ModuleReplacement(student, teacher, 6, 0), []

    def before_step(step: int) -> None:
        steps.append(step)
        mixed.select_layers(step)

    settings = DistillSettings.model_validate({"epochs": 2, "batch_size": 8, "lr": 1e-3, "precision": "fp32", "device": "cpu"})
    fit(student, data, loss_on_labels(mixed, data, "class", CPU, before_step), TrainingPlan(settings, 0))
    assert steps == list(range(6))
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    taken = take_layers(teacher, 2).state_dict()
    assert not all(torch.equal(tensor, taken[name]) for name, tensor in student.state_dict().items())


def test_a_teacher_with_uneven_layers(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    teacher = tiny.make_model("mpnet")
    slice_model(teacher, [Kept([0, 3], [1, 2]), Kept([0, 1, 2], [1, 2]), Kept([1], [5, 6])])
    folder = tmp_path / "teacher"
    folder.mkdir()
    tiny.write_tokenizer(folder, "mpnet")
    save_model(teacher, folder, folder)
    result = run(inputs(folder, "layers=2", tiny_task), tmp_path / "out", method="theseus")
    assert len(result["layers"]) == 2


def test_a_position_bias_per_head_needs_the_same_heads(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="initialised from the teacher's layers"):
        run(inputs(checkpoint("mpnet"), "layers=2,heads=2", tiny_task), tmp_path / "out", method="theseus")
