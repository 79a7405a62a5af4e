"""Knowledge distillation: the stage `distill`. Losses, students, teachers and the cache of their answers stand beside it."""

from __future__ import annotations

import tempfile
from functools import reduce
from pathlib import Path

import torch

from compress.core import console, processes
from compress.core.errors import UsageError
from compress.data.unlabeled import append_unlabeled, read_unlabeled
from compress.distill.calibration import Calibration
from compress.distill.explain import explanation
from compress.distill.layer_matching import check_target, without_layers
from compress.distill.student_training import teach
from compress.distill.students import Start, make_student, shape_of_student
from compress.distill.teachers import load_teacher
from compress.distill.theseus import check_replaceable
from compress.models.checkpoint import load_model, save_model
from compress.models.config import read_config
from compress.models.family import family_of
from compress.models.label_mapping import map_labels
from compress.models.model_shape import count_params, model_shape
from compress.models.shape import ADAPTER_KEY, CONFIG_KEY, Shape, shape_of_config
from compress.results import DistillPlan, TrainedDocument
from compress.settings import DistillSettings
from compress.stage import Inputs
from compress.training.budget import TimeBudget
from compress.training.seeds import run_seeds

__all__ = ["plan", "run", "teach"]


def run(inputs: Inputs, settings: DistillSettings, output: Path) -> TrainedDocument:
    """Train a student on its teachers' answers and on what goes on inside, keep its best epoch, write a checkpoint."""
    if settings.seeds:
        return run_seeds(run, inputs, settings, output)
    _check(inputs, settings)
    budget = TimeBudget.of(settings)
    task, teacher_folder = inputs.task, _teacher(inputs)
    torch.manual_seed(inputs.seed)
    teacher = load_model(teacher_folder, target=task.spec.target)
    classes = map_labels(read_config(teacher_folder), task, str(teacher_folder.name))
    others = [load_teacher(folder, task, teacher, classes) for folder in inputs.more_teachers]
    unlabeled = read_unlabeled(settings.unlabeled, task.spec) if settings.unlabeled else None
    labeled = task.split("train") if unlabeled is None or "train" in task.available else None
    texts = reduce(append_unlabeled, [part for part in (labeled, unlabeled) if part is not None])
    with tempfile.TemporaryDirectory() as scratch:
        start = Start(Calibration(texts, teacher_folder, task.spec.input_spec, inputs.seed), Path(scratch), settings.init)
        student, student_folder = make_student(inputs.student, teacher, teacher_folder, start, task.spec.target, task.label_names)
        settings = _matchable(settings, model_shape(teacher), model_shape(student))
        taught = teach(
            student, teacher, teacher_folder, task, unlabeled, classes, settings, inputs.seed, student_folder, others,
            made=isinstance(inputs.student, str), resume=inputs.resume, budget=budget,
        )  # fmt: skip
        student.to("cpu")
        if processes.rank() == 0:
            save_model(student, output, student_folder)
    if taught.fitted.diverged:
        raise taught.fitted.diverged
    if (after := taught.metrics[task.spec.main_metric]) < taught.before:
        console.warn(
            f"the student is worse than before it was trained ({100 * after:.2f}, {100 * taught.before:.2f} before): try a lower --lr"
        )
    return {
        "metrics": {"validation": {"n": len(task.split("validation")), **taught.metrics, "before": taught.before}},
        "training": taught.training(),
        "params": count_params(student),
        "layers": model_shape(student).as_json(),
    }


def plan(inputs: Inputs, settings: DistillSettings) -> DistillPlan:
    """Return what would be matched with what, with weights, shapes and projections; nothing is trained or written."""
    _check(inputs, settings)
    task, config = inputs.task, read_config(_teacher(inputs))
    teacher, adapted = shape_of_config(config), ADAPTER_KEY in (config.get(CONFIG_KEY) or {})
    check_target(settings, task.spec.target, len(task.label_names))
    student = shape_of_student(inputs.student, teacher, settings.init, adapted)
    settings = _matchable(settings, teacher, student)
    if settings.augment or settings.unlabeled:
        settings = settings.model_copy(update={"hard_weight": 0.0})
    if "theseus" in settings.losses:
        check_replaceable(student, teacher, isinstance(inputs.student, str) and settings.init != "random", family_of(config["model_type"]))
    return {**explanation(settings, teacher, student), "teachers": 1 + len(inputs.more_teachers)}


def _check(inputs: Inputs, settings: DistillSettings) -> None:
    """Refuse settings that say nothing about these models.

    Raises:
        UsageError: there are such settings.
    """
    if "theseus" in settings.losses and inputs.more_teachers:
        raise UsageError("method theseus has one teacher, whose layers stand in for the student's", "give one --teacher")
    if isinstance(inputs.student, Path) and settings.init != "auto":
        raise UsageError(f"init {settings.init} says how a student of a SPEC starts, and the student is a model", "leave out --init")


def _matchable(settings: DistillSettings, teacher: Shape, student: Shape) -> DistillSettings:
    """Return the settings as these two can follow them; says so where the default is more."""
    found = without_layers(settings, teacher, student)
    if found is not settings:
        recurrent = teacher.lstm is not None or student.lstm is not None
        why = "a BiLSTM has no layers to match" if recurrent else "student and teacher differ in width"
        more = "" if recurrent else "; --match all compares their layers as well"
        console.info(f"  {why}: method {', '.join(found.losses)} alone{more}")
    return found


def _teacher(inputs: Inputs) -> Path:
    if inputs.teacher is None:
        raise UsageError("distill needs a teacher", "give --teacher MODEL")
    return inputs.teacher
