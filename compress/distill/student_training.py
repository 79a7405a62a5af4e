"""Train a student in place on what its teachers say: data, cache, objective and loop brought together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.core import console, processes
from compress.data.encoded import Encoded
from compress.data.examples import Examples
from compress.data.task import Task
from compress.data.unlabeled import append_unlabeled
from compress.distill.augment import augmented
from compress.distill.cache import TeacherOutputs, teacher_outputs
from compress.distill.layer_matching import Match, check_target, labels_alone, matches
from compress.distill.objective import Lessons, Objective
from compress.distill.teachers import Teacher, check_tokens, common_mask, mean_logits, same_tokens
from compress.distill.theseus import Replacement, check_replaceable
from compress.distill.word_substitution import substituted
from compress.editing.gradients import dropout_disabled
from compress.inference.evaluator import Evaluator
from compress.inference.forward import torch_forward
from compress.models.device import Batch, pick_device
from compress.models.family import family_of
from compress.models.inputs import encode_for
from compress.models.label_mapping import to_model_labels
from compress.models.model_shape import model_shape
from compress.models.reference import digest_model
from compress.models.task_loss import logits_of, task_loss
from compress.settings import DistillSettings
from compress.settings.distill_losses import PER_TOKEN
from compress.training.budget import TimeBudget
from compress.training.learning_rate import MANY_LABELS, base_lr, default_lr
from compress.training.loop import Loss, TrainingPlan, TrainingResult, fit

LEAST_STEPS = 1000  # of a training that is told neither epochs nor time
EPOCHS = (3, 10)  # the bounds of its epochs


def usual_epochs(examples: int, batch_size: int) -> int:
    """Return the epochs of a training on so many texts, or windows of them: three, or as many as make `LEAST_STEPS` steps, but at most ten.

    A teacher's answers are not overfitted as labels are: see docs/decisions/0019-logits-across-widths.md.
    """
    return min(max(math.ceil(LEAST_STEPS / math.ceil(examples / batch_size)), EPOCHS[0]), EPOCHS[1])


def usual_lr(student: Any, cut: bool = False) -> float:
    """Return the peak learning rate of a student: twice that of labels alone; of a BiLSTM, and beyond 20 labels, the same.

    Args:
        student: the model.
        cut: whether it was made of its teacher at another width, and so is far from any trained model: 5e-4; 1.5e-4 above 512 wide.
    """
    if family_of(student.config.model_type).recurrent:
        return default_lr(student)
    if cut:
        return 5 * base_lr(student)
    return default_lr(student) if student.config.num_labels > MANY_LABELS else 2 * base_lr(student)


@dataclass(frozen=True)
class Taught:
    """What came of teaching: the main metric before, training, the metrics after, and a first stage on layers alone."""

    before: float
    fitted: TrainingResult
    metrics: dict[str, float]
    layer_stage: TrainingResult | None = None

    def training(self) -> dict[str, Any]:
        """Return what training did as a JSON document."""
        first = {} if self.layer_stage is None else {"layer_stage": self.layer_stage.as_json()}
        return {**self.fitted.as_json(), **first}


def teach(
    student: Any, teacher: Any, teacher_folder: Path, task: Task, unlabeled: Examples | None,
    classes: np.ndarray, settings: DistillSettings, seed: int, tokens_from: Path | None = None,
    others: Sequence[Teacher] = (), made: bool = False, resume: Path | None = None, budget: TimeBudget | None = None,
    lr_option: str = "--lr",
) -> Taught:  # fmt: skip
    """Train a student in place to answer as its teacher, keep its best epoch on validation.

    Labels count only where every example has one: not with unlabeled texts, nor with variants of texts (`settings.augment`).

    Args:
        student: a model with a head whose logits stand in the order of the teacher's.
        teacher: a model with a head for the same task.
        teacher_folder: of the teacher's tokenizer and weights (their digest names the cache of its outputs).
        task: whose validation split judges; its training split is learned from, where it has one.
        unlabeled: texts beside that, or alone.
        classes: of the teacher's logits in the task's order.
        settings: of training and of the losses.
        seed: of shuffling and dropout.
        tokens_from: the folder whose tokenizer and limits encode the student's texts; by default the teacher's.
        others: further teachers, whose logits are averaged with the first one's.
        made: whether the student was made of the teacher for this training; `theseus` needs its layers, and another width a higher rate.
        resume: where training keeps its state, to go on from when it is killed.
        budget: the time that there is, in the place of epochs.
        lr_option: the option that sets the learning rate, for the hint of a training that diverged.

    Raises:
        UsageError: losses that do not fit the task or the two models.
        DataError: different tokens where tokens are compared.
        ResourceError: the cache of the teacher's answers cannot be written.
        Diverged: a loss or a gradient is not finite.
    """
    device, target = pick_device(settings.device), task.spec.target
    check_target(settings, target, len(classes))
    teacher_shape, student_shape = model_shape(teacher), model_shape(student)
    pairs = matches(settings, teacher_shape, student_shape)
    folder = tokens_from or teacher_folder
    examples, labeled = _texts(task, unlabeled, settings, seed, [teacher_folder, folder, *(other.folder for other in others)])
    if not labeled:
        if settings.hard_weight:
            console.info("  the labels do not count, for not every text has one")
        settings = settings.model_copy(update={"hard_weight": 0.0})
    data = encode_for(folder, examples, task.spec.input_spec)
    evaluator = Evaluator(task, "validation", folder, classes)
    settings = _filled_in(settings, student, made and teacher_shape.hidden != student_shape.hidden, len(data), budget)

    def evaluate() -> dict[str, float]:
        return evaluator.score(torch_forward(student, device))

    numbered = replace(data, labels=to_model_labels(data.labels, target, classes)) if labeled else data
    extra: list[torch.nn.Parameter] = []
    on_step: Callable[[int], None] | None = None
    if "theseus" in settings.losses:
        check_replaceable(student_shape, teacher_shape, made and settings.init != "random", family_of(student.config.model_type))
        mixed = Replacement(student, teacher, (settings.epochs or 1) * math.ceil(len(data) / settings.batch_size), seed)
        objective: Any = _labels_of(mixed, numbered, task, device)
        on_step = mixed.at
    else:
        lessons = _lessons(teacher, teacher_folder, examples, data, folder, task, pairs, settings, others, device)
        objective = Objective(student, replace(lessons, data=numbered, labeled=labeled), pairs, settings, device)
        extra = list(objective.parameters())
    teacher.to(device)  # what does not fit the cache is computed in every step
    student.to(device)
    before = time.monotonic()
    start = processes.from_main(evaluate)[task.spec.main_metric]
    if budget is not None:
        budget.reserve(time.monotonic() - before, time.monotonic() - before)
    console.info(f"  student before distillation: validation {100 * start:.2f}")
    with nullcontext() if settings.dropout else dropout_disabled(student):
        first = None
        plan = TrainingPlan(settings, seed, resume, budget, "distilling", lr_option)
        if settings.layer_epochs:
            objective.terms = "layers"
            alone = settings.model_copy(update={"epochs": settings.layer_epochs, "lr": settings.layer_lr or settings.lr, "patience": None})
            stage = replace(plan, settings=alone, label="matching layers", budget=None, lr_option="--layer-lr")
            first = fit(student, data, Loss(objective, extra, data.items), stage)
            objective.terms, extra = "outputs", []
        loss = Loss(objective, extra, data.items, on_step)
        fitted = fit(student, data, loss, plan, lambda: evaluate()[task.spec.main_metric])
    return Taught(start, fitted, processes.from_main(evaluate), first)


def _filled_in(settings: DistillSettings, student: Any, cut: bool, examples: int, budget: TimeBudget | None) -> DistillSettings:
    """Return the settings with the epochs and the rate that were left to the data and the student; of labels alone `finetune`'s."""
    found: dict[str, Any] = {}
    if settings.epochs is None and budget is None:
        found["epochs"] = EPOCHS[0] if labels_alone(settings) else usual_epochs(examples, settings.batch_size)
    if settings.lr is None and not labels_alone(settings):
        found["lr"] = usual_lr(student, cut)
    return settings.model_copy(update=found)


def _texts(task: Task, unlabeled: Examples | None, settings: DistillSettings, seed: int, folders: list[Path]) -> tuple[Examples, bool]:
    """Return the texts to learn from, and whether all of them have labels; `folders` are those of the tokenizers that cut them."""
    labeled = task.split("train") if unlabeled is None or "train" in task.available else None
    parts = [part for part in (labeled, unlabeled) if part is not None]
    if settings.augment:
        texts, input_spec, copies = [text for part in parts for text in part.texts], task.spec.input_spec, settings.augment
        if settings.augment_model:
            made = substituted(texts, input_spec, copies, seed, settings.augment_model, pick_device(settings.device))
        else:
            made = augmented(texts, input_spec, copies, seed, common_mask(folders))
        parts.append(made)
    examples = reduce(append_unlabeled, parts)
    note = f", {len(parts[-1]):,} of them made of the others" if settings.augment else ""
    console.info(f"  {len(examples):,} texts to learn from{note}")
    return examples, len(parts) == 1 and labeled is not None


def _lessons(
    teacher: Any, teacher_folder: Path, examples: Examples, data: Encoded, folder: Path, task: Task,
    pairs: list[Match], settings: DistillSettings, others: Sequence[Teacher], device: torch.device,
) -> Lessons:  # fmt: skip
    """Ask the teachers about every example, and see where their tokens are the student's."""
    target = task.spec.target

    def read(source: Path) -> tuple[Encoded, np.ndarray]:
        if source == folder:
            return data, np.ones(len(data), dtype=bool)
        own = encode_for(source, examples, task.spec.input_spec)
        return own, same_tokens(data, own, folder, source)

    teacher_data, aligned = read(teacher_folder)
    compared = [match.method for match in pairs if match.method in PER_TOKEN]
    check_tokens(aligned, target, compared, folder, teacher_folder)
    if compared and not aligned.all():
        console.info(f"  {int(aligned.sum()):,} of {len(aligned):,} texts have the same tokens for both: there layers are matched")
    wanted = [feature for match in pairs for feature in match.of_teacher]
    answers = teacher_outputs(teacher, digest_model(teacher_folder), teacher_data, wanted, device)
    all_logits = [answers.logits]
    for other in others:
        own, same = read(other.folder)
        check_tokens(same, target, [], folder, other.folder)
        all_logits.append(teacher_outputs(other.model, digest_model(other.folder), own, [], device).logits[:, other.order])
        other.model.to("cpu")
    if others:
        answers = TeacherOutputs(mean_logits(all_logits), answers.features, answers.starts)
    return Lessons(teacher, answers, data, teacher_data, aligned, target, False)


def _labels_of(mixed: Replacement, data: Encoded, task: Task, device: torch.device) -> Any:
    """Return the task's loss of a student that still has layers of its teacher."""

    def loss_of(batch: Batch, positions: np.ndarray) -> torch.Tensor:
        labels = torch.from_numpy(data.targets(positions)).to(device)
        return task_loss(logits_of(mixed(batch)), labels, batch["attention_mask"], task.spec.target)

    return loss_of
