"""Knowledge distillation: the stage `distill`, its losses, students, teachers and the cache of teacher outputs."""

from __future__ import annotations

import math
from functools import reduce
from pathlib import Path

import torch

from compress.core import console, processes
from compress.core.errors import UsageError
from compress.core.scratch import folder as scratch_folder
from compress.data.unlabeled import append_unlabeled, read_unlabeled
from compress.distill.augment import check_augmentation
from compress.distill.explain import explain_training
from compress.distill.init_texts import InitTexts
from compress.distill.int8_training import check_student
from compress.distill.layer_matching import check_methods, drop_default_layer_losses, for_candidates
from compress.distill.module_replacement import check_replaceable
from compress.distill.student_spec import parse_spec, shape_of_student
from compress.distill.student_training import DistillationResult, Student, train_student
from compress.distill.students import StudentInit, create_student
from compress.distill.teachers import load_teachers
from compress.distill.training_data import labeled_and_unlabeled
from compress.models.activation import take_activation
from compress.models.checkpoint import save_model
from compress.models.config import read_config
from compress.models.family import family_of
from compress.models.model_shape import count_params, model_shape
from compress.models.shape import ADAPTER_KEY, CONFIG_KEY, Shape, shape_of_config
from compress.results import DistillPlan, TrainedDocument
from compress.results.values import Metrics
from compress.settings import DistillSettings
from compress.stage import Inputs
from compress.training.budget import TimeBudget
from compress.training.loop import TrainingPlan
from compress.training.seeds import run_seeds


def run(inputs: Inputs, settings: DistillSettings, output: Path) -> TrainedDocument:
    """Train a student on its teachers' outputs and features, keep its best epoch on validation and write a checkpoint."""
    if settings.seeds:
        return run_seeds(run, inputs, settings, output)
    settings = for_candidates(settings, inputs.task.spec)
    _check(inputs, settings)
    budget = TimeBudget.of(settings)
    task, target = inputs.task, inputs.task.spec.target
    torch.manual_seed(inputs.seed)
    teachers = load_teachers(_teacher(inputs), inputs.more_teachers, task)
    unlabeled = read_unlabeled(settings.unlabeled, task.spec) if settings.unlabeled else None
    texts = reduce(append_unlabeled, labeled_and_unlabeled(task, unlabeled, settings.max_examples, inputs.seed))
    with scratch_folder() as scratch:
        init = StudentInit(InitTexts(texts, teachers.folder, task.spec.input_spec, inputs.seed), scratch, settings.init)
        model, tokenizer = create_student(inputs.student, teachers.model, teachers.folder, init, target, task.label_names)
        if target == "value":
            take_activation(model.config, teachers.model.config)
        student = Student(model, tokenizer, from_teacher=isinstance(inputs.student, str))
        settings = _without_unmatchable(settings, model_shape(teachers.model), model_shape(model))
        plan = TrainingPlan(settings, inputs.seed, inputs.resume, budget, metric=task.spec.main_metric)
        result = train_student(student, teachers, task, plan, unlabeled)
        model.to("cpu")
        if processes.rank() == 0:
            save_model(model, output, tokenizer)
    if result.training.diverged:
        raise result.training.diverged
    if (after := result.metrics[task.spec.main_metric]) < result.score_before:
        console.warn(_worse(after, result.score_before, len(task.split("validation")), inputs.student))
    return {
        "metrics": {"validation": _validation(result, len(task.split("validation")))},
        "training": result.training_document(),
        "params": count_params(model),
        "layers": model_shape(model).as_json(),
    }


def _validation(result: DistillationResult, n: int) -> Metrics:
    """Return the metrics on validation, `before` training and, if it rounded, in `float`."""
    metrics: Metrics = {"n": n, **result.metrics, "before": result.score_before}
    return metrics if result.score_float is None else {**metrics, "float": result.score_float}


def _worse(after: float, before: float, n: int, student: Path | str | None) -> str:
    """Return the warning about a student that lost by its training."""
    scores = f"the student is worse than before training ({100 * after:.2f}, {100 * before:.2f} before, n = {n})"
    noise = math.sqrt(2 * before * (1 - before) / n) if 0 <= before <= 1 else 0.0  # of the difference of two shares
    within = "; the difference is within the noise" if before - after <= 1.96 * noise else ""
    keep = f"keep {student}, or " if isinstance(student, Path) else ""
    return f"{scores}{within}: {keep}try a lower --lr"


def plan(inputs: Inputs, settings: DistillSettings) -> DistillPlan:
    """Return what would be matched, with weights, shapes and projections; nothing is trained or written."""
    settings = for_candidates(settings, inputs.task.spec)
    _check(inputs, settings)
    task, config = inputs.task, read_config(_teacher(inputs))
    teacher, adapted = shape_of_config(config), ADAPTER_KEY in (config.get(CONFIG_KEY) or {})
    check_methods(settings, task.spec, len(task.label_names))
    student = shape_of_student(inputs.student, teacher, settings.init, adapted, 1 if task.spec.target == "vector" else len(task.spec.text))
    settings = _without_unmatchable(settings, teacher, student)
    if settings.augment or settings.unlabeled or task.spec.target == "vector" or task.spec.ranks_candidates:
        settings = settings.model_copy(update={"hard_weight": 0.0})
    if "theseus" in settings.losses:
        from_layers = isinstance(inputs.student, str) and settings.init != "random"
        check_replaceable(student, teacher, from_layers, family_of(config["model_type"]))
    return {**explain_training(settings, teacher, student), "teachers": 1 + len(inputs.more_teachers)}


def _check(inputs: Inputs, settings: DistillSettings) -> None:
    """Check that the settings suit the number of teachers, and the kind of student the task.

    Raises:
        UsageError: they do not.
    """
    if "theseus" in settings.losses and inputs.more_teachers:
        raise UsageError("method theseus replaces the layers of one teacher, and there are several", "give one --teacher")
    if isinstance(inputs.student, Path) and settings.init != "auto":
        raise UsageError(f"init {settings.init} initialises a student from a SPEC, and the student is a model", "leave out --init")
    if settings.quantize:
        check_student(inputs.student)
    check_augmentation(settings.augment, inputs.task.spec.target)
    if isinstance(inputs.student, str) and parse_spec(inputs.student).static and inputs.task.spec.target in ("tags", "span", "mentions"):
        raise UsageError(
            f"a static student sees a text as a whole, and {inputs.task.spec.name} has a prediction for each token",
            "use --student lstm=150, or layers=K",
        )


def _without_unmatchable(settings: DistillSettings, teacher: Shape, student: Shape) -> DistillSettings:
    """Return the settings without default losses that cannot compare these two shapes; prints which."""
    reduced = drop_default_layer_losses(settings, teacher, student)
    if reduced is not settings:
        without = student.without_layers or teacher.without_layers
        reason = f"a {without.title} has no layers to match" if without else "student and teacher differ in width"
        hint = "" if without else "; --match all compares their layers as well"
        console.info(f"  {reason}: method {', '.join(reduced.losses)} only{hint}")
    return reduced


def _teacher(inputs: Inputs) -> Path:
    if inputs.teacher is None:
        raise UsageError("distill needs a teacher", "give --teacher MODEL")
    return inputs.teacher
