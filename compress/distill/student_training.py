"""Train a student in place on its teachers' outputs and on labels."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from compress.core import console, processes
from compress.data.encoded import Encoded
from compress.data.encoded_lists import group_in_lists
from compress.data.examples import Examples
from compress.data.task import Task
from compress.distill.defaults import with_defaults
from compress.distill.distillation_loss import DistillationLoss
from compress.distill.int8_training import start_rounding
from compress.distill.layer_matching import check_methods, match_layers
from compress.distill.module_replacement import ModuleReplacement, check_replaceable
from compress.distill.teachers import Teachers
from compress.distill.training_data import list_size, training_texts, with_teacher_outputs
from compress.editing.gradients import dropout_disabled
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.models.activation import activation_of
from compress.models.family import family_of
from compress.models.inputs import encode_for
from compress.models.int8_ranges import record_ranges
from compress.models.label_mapping import to_model_labels
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel
from compress.results import TrainingDocument
from compress.settings import DistillSettings
from compress.training.label_loss import loss_on_labels
from compress.training.loop import Loss, TrainingPlan, TrainingResult, fit


@dataclass(frozen=True)
class Student:
    """A model to train.

    Attributes:
        model: with a head whose logits are in the order of the first teacher's.
        tokenizer: the folder whose tokenizer and length limit encode its texts.
        from_teacher: whether its layers were initialised from the first teacher's: `theseus` needs that, and another width then needs
            a higher learning rate.
    """

    model: TransformersModel
    tokenizer: Path
    from_teacher: bool = False


@dataclass(frozen=True)
class DistillationResult:
    """What a distillation did.

    Attributes:
        score_before: the task's main metric on validation before training.
        metrics: all metrics on validation after training, with the rounding of int8 if it was trained with it.
        training: the training, or its last stage.
        layer_stage: a first stage with the losses of layers only.
        score_float: the main metric of the same weights without the rounding of int8, if it was trained with it.
    """

    score_before: float
    metrics: dict[str, float]
    training: TrainingResult
    layer_stage: TrainingResult | None = None
    score_float: float | None = None

    def training_document(self) -> TrainingDocument:
        """Return what training did as a JSON document."""
        document = self.training.as_json()
        return document if self.layer_stage is None else {**document, "layer_stage": self.layer_stage.as_json()}


def train_student(
    student: Student, teachers: Teachers, task: Task, plan: TrainingPlan[DistillSettings], unlabeled: Examples | None = None
) -> DistillationResult:
    """Train a student in place to predict as its teachers, and keep its best epoch on validation.

    Labels count only if every example has one: neither with unlabeled texts nor with augmentation (`settings.augment`).

    Args:
        student: the student.
        teachers: the teachers.
        task: has the training split, which is optional with unlabeled texts, and the validation split.
        plan: how to train; epochs and learning rate that its settings leave open are filled in.
        unlabeled: further texts to learn from.

    Raises:
        UsageError: losses do not suit the task or the models.
        DataError: student and teacher have different tokens, and tokens are compared.
        ResourceError: the teachers' outputs cannot be cached.
        Diverged: a loss or a gradient is not finite.
    """
    check_methods(plan.settings, task.spec, len(teachers.classes))
    match_layers(plan.settings, model_shape(teachers.model), model_shape(student.model))  # fails before any work
    examples, labeled = training_texts(task, unlabeled, plan, [student.tokenizer, *teachers.folders])
    data = encode_for(student.tokenizer, examples, task.spec.input_spec)
    evaluator = Evaluator(
        task,
        "validation",
        student.tokenizer,
        teachers.classes,
        activation=activation_of(student.model),
        reference=(torch_forward(teachers.model), teachers.folder),
    )
    size = list_size(plan.settings)
    plan = replace(plan, settings=_settings(plan.settings, student, teachers, labeled, len(data) // size, task))
    if labeled:
        data = replace(data, labels=to_model_labels(data.labels, task.spec.target, teachers.classes))
    if "theseus" in plan.settings.losses:
        losses = [_theseus_loss(student, teachers, task, data, plan)]
    else:
        losses = _distillation_losses(student, teachers, task, examples, data, plan, labeled)
    teachers.model.to(plan.device)  # for features that are not cached
    student.model.to(plan.device)
    with nullcontext() if plan.settings.dropout else dropout_disabled(student.model):
        return _train(student.model, group_in_lists(data, size), losses, evaluator, plan, data)


def _settings(settings: DistillSettings, student: Student, teachers: Teachers, labeled: bool, examples: int, task: Task) -> DistillSettings:
    """Return the settings with defaults filled in, and without the loss of labels if there are texts without."""
    settings = settings.model_copy(update={"batch_size": max(1, settings.batch_size // list_size(settings))})  # of lists
    if not labeled:
        if settings.hard_weight and task.spec.target != "vector" and not task.spec.ranks_candidates:
            console.info("  labels are ignored, because not every text has one")
        settings = settings.model_copy(update={"hard_weight": 0.0})
    narrowed = student.from_teacher and model_shape(student.model).hidden != model_shape(teachers.model).hidden
    return with_defaults(settings, student.model, narrowed, examples)


def _theseus_loss(student: Student, teachers: Teachers, task: Task, data: Encoded, plan: TrainingPlan[DistillSettings]) -> Loss:
    """Return the loss on labels of a student that still runs some of its teacher's layers."""
    settings = plan.settings
    from_layers = student.from_teacher and settings.init != "random"
    shapes = model_shape(student.model), model_shape(teachers.model)
    check_replaceable(*shapes, from_layers, family_of(student.model.config.model_type))
    steps = (settings.epochs or 1) * math.ceil(len(data) / settings.batch_size)
    mixed = ModuleReplacement(student.model, teachers.model, steps, plan.seed)
    activation = activation_of(student.model)
    return loss_on_labels(mixed, data, task.spec.target, plan.device, before_step=mixed.select_layers, activation=activation)


def _distillation_losses(
    student: Student, teachers: Teachers, task: Task, examples: Examples, data: Encoded, plan: TrainingPlan[DistillSettings], labeled: bool
) -> list[Loss]:
    """Return the loss of each stage of training: that of layers if they have their own stage, and that of outputs; or both as one."""
    matches = match_layers(plan.settings, model_shape(teachers.model), model_shape(student.model))
    training_data = with_teacher_outputs(examples, data, student.tokenizer, teachers, task.spec.input_spec, matches, plan, labeled)
    loss = DistillationLoss(student.model, teachers.model, training_data, matches, plan.settings, plan.device)
    items = group_in_lists(data, training_data.list_size).items
    if not plan.settings.layer_epochs:
        return [Loss(loss, loss.parameters(), items)]
    layers, outputs = loss.restricted_to("layers"), loss.restricted_to("outputs")
    return [Loss(layers, loss.parameters(), items), Loss(outputs, item_count=items)]


def _train(
    student: TransformersModel, data: Encoded, losses: list[Loss], evaluator: Evaluator, plan: TrainingPlan[DistillSettings],
    calibration: Encoded,
) -> DistillationResult:  # fmt: skip
    """Train a student in one or two stages, and validate it before and after.

    Args:
        student: the student.
        data: the training examples, or lists of them.
        losses: of each stage.
        evaluator: on validation.
        plan: how to train.
        calibration: the training examples, to calibrate ranges of int8 on.
    """
    main_metric = evaluator.task.spec.main_metric

    def evaluate() -> dict[str, float]:
        return evaluator.score(torch_forward(student, plan.device))

    started = time.monotonic()
    before = processes.from_main(evaluate)[main_metric]
    if plan.budget is not None:
        seconds = time.monotonic() - started
        plan.budget.reserve(validation=seconds, final_scoring=seconds)
    console.info(f"  student before distillation: validation {main_metric} {100 * before:.2f}")
    layer_stage = fit(student, data, losses[0], _layer_stage(plan)) if len(losses) > 1 else None
    rounding = start_rounding(student, calibration) if plan.settings.quantize else None
    result = fit(student, data, losses[-1], replace(plan, label="distilling"), lambda: evaluate()[main_metric])
    metrics, score_float = processes.from_main(evaluate), None
    if rounding is not None:
        rounding.remove()
        record_ranges(student.config, rounding.ranges())
        score_float = processes.from_main(evaluate)[main_metric]
        console.info(f"  validation {main_metric} {100 * metrics[main_metric]:.2f} in int8, {100 * score_float:.2f} in float")
    return DistillationResult(before, metrics, result, layer_stage, score_float)


def _layer_stage(plan: TrainingPlan[DistillSettings]) -> TrainingPlan[DistillSettings]:
    """Return the plan of a first stage with the losses of layers only."""
    settings = plan.settings
    update = {"epochs": settings.layer_epochs, "lr": settings.layer_lr or settings.lr, "patience": None}
    return replace(plan, settings=settings.model_copy(update=update), label="matching layers", budget=None, lr_option="--layer-lr")
