"""Knowledge distillation: the stage `distill`. Losses, students and the teacher's cache stand beside it."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from compress import console, parallel
from compress.distill.augment import augmented
from compress.distill.cache import TeacherOutputs, teacher_outputs
from compress.distill.losses import hidden_mse, logits_loss
from compress.distill.students import layer_map, parse_spec, take_layers
from compress.errors import DataError, UsageError
from compress.model.checkpoint import count_params, load_model, model_labels, model_shape, save_model
from compress.model.config import read_config, target_of
from compress.model.device import Batch, pick_device, to_tensors
from compress.model.family import Target
from compress.model.objective import logits_of, task_loss
from compress.model.reference import digest
from compress.model.scorer import measure, torch_forward
from compress.model.tokenizer import load_tokenizer
from compress.settings import DistillSettings
from compress.stage import Inputs
from compress.task.encode import Encoded, encode_for
from compress.task.labels import connect, relabel
from compress.task.load import Examples, Task
from compress.task.unlabeled import joined, read_unlabeled
from compress.train.budget import Budget
from compress.train.loop import FitResult, fit
from compress.train.seeds import by_seed


def run(inputs: Inputs, settings: DistillSettings, output: Path) -> dict[str, Any]:
    """Train a student on its teacher's logits and hidden states, keep its best epoch, write a checkpoint."""
    if settings.seeds:
        return by_seed(run, inputs, settings, output)
    budget = Budget.of(settings)
    task, teacher_folder = inputs.task, inputs.teacher
    if teacher_folder is None:
        raise UsageError("distill needs a teacher", "give --teacher MODEL")
    torch.manual_seed(inputs.seed)
    teacher = load_model(teacher_folder, target=task.spec.target)
    student, student_folder = make_student(inputs.student, teacher, teacher_folder)
    classes = connect(read_config(teacher_folder), task, str(teacher_folder.name))
    unlabeled = read_unlabeled(settings.unlabeled, task.spec) if settings.unlabeled else None
    before, fitted, metrics = teach(
        student, teacher, teacher_folder, task, unlabeled, classes, settings, inputs.seed, student_folder, inputs.resume, budget
    )
    student.to("cpu")
    if parallel.rank() == 0:
        save_model(student, output, student_folder)
    return {
        "metrics": {"validation": {"n": len(task.split("validation")), **metrics, "before": before}},
        "training": fitted.as_json(),
        "params": count_params(student),
        "layers": model_shape(student).as_json(),
        "diverged": fitted.diverged,
    }


def teach(
    student: Any, teacher: Any, teacher_folder: Path, task: Task, unlabeled: Examples | None,
    classes: np.ndarray, settings: DistillSettings, seed: int, tokens_from: Path | None = None, resume: Path | None = None,
    budget: Budget | None = None,
) -> tuple[float, FitResult, dict[str, float]]:  # fmt: skip
    """Train a student in place to answer as its teacher, keep its best epoch on validation.

    Labels count only where every example has one: not with unlabeled texts, nor with variants of texts (`settings.augment`).

    Args:
        student: a model with a head, which takes the tokens that the teacher takes.
        teacher: a model with a head for the same task.
        teacher_folder: of the teacher's tokenizer and weights (their digest names the cache of its outputs).
        task: whose validation split judges; its training split is learned from, where it has one.
        unlabeled: texts beside that, or alone.
        classes: of the teacher's logits in the task's order.
        settings: of training and of the losses.
        seed: of shuffling and dropout.
        tokens_from: the folder whose tokenizer and limits encode the texts; by default the teacher's.
        resume: where training keeps its state, to go on from when it is killed.
        budget: the time that there is, in the place of epochs.

    Returns:
        The score before, what training did, and the metrics after.
    """
    device, target = pick_device(settings.device), task.spec.target
    labeled = task.split("train") if unlabeled is None or "train" in task.available else None
    parts = [part for part in (labeled, unlabeled) if part is not None]
    if settings.augment:
        parts.append(augmented([text for part in parts for text in part.texts], task.spec.reading, settings.augment, seed))
    examples = reduce(joined, parts)
    if len(parts) > 1 or labeled is None:
        settings = settings.model_copy(update={"hard_weight": 0.0})
    made = f", {len(parts[-1]):,} of them made of the others" if settings.augment else ""
    console.info(f"  {len(examples):,} texts to learn from{made}")
    validation = task.split("validation")
    folder = tokens_from or teacher_folder
    data = encode_for(folder, examples, task.spec.reading)
    held_out = encode_for(folder, validation, task.spec.reading)
    pairs = layer_map(len(model_shape(student).layers), len(model_shape(teacher).layers), settings.match)
    pairs = pairs if settings.hidden_weight else []
    answers = teacher_outputs(teacher, digest(teacher_folder), data, [number for _, number in pairs], device)
    projections = _projections(student, teacher, len(pairs)).to(device)
    teacher.to(device)  # hidden states that do not fit the cache are computed in every step
    asked = replace(data, labels=relabel(data.labels, target, classes)) if settings.hard_weight else data
    loss_of = _loss(student, teacher, answers, asked, target, pairs, projections, settings, device)

    def evaluate() -> dict[str, float]:
        return measure(torch_forward(student, device), held_out, validation, task, classes, "validating")

    student.to(device)
    before = time.monotonic()
    start = parallel.shared(evaluate)[task.spec.main_metric]
    if budget is not None:
        budget.scores_take(time.monotonic() - before, time.monotonic() - before)
    console.info(f"  student before distillation: validation {100 * start:.2f}")
    fitted = fit(
        student, data, loss_of, settings, seed=seed, device=device,
        validate=lambda: evaluate()[task.spec.main_metric], extra=list(projections.parameters()), label="distilling",
        resume=resume, budget=budget, weigh=data.items,
    )  # fmt: skip
    return start, fitted, parallel.shared(evaluate)


def make_student(wanted: Path | str | None, teacher: Any, teacher_folder: Path) -> tuple[Any, Path]:
    """Build the student from a SPEC or load it from a folder; returns it with its tokenizer's folder.

    Raises:
        UsageError: no student, or a malformed SPEC.
        DataError: student and teacher do not share their tokenizer.
    """
    if wanted is None:
        raise UsageError("distill needs a student", "give --student MODEL or --student layers=K")
    if isinstance(wanted, str):
        return take_layers(teacher, parse_spec(wanted)), teacher_folder
    folder = wanted
    if load_tokenizer(folder).get_vocab() != load_tokenizer(teacher_folder).get_vocab():
        raise DataError(
            f"student {folder} and teacher {teacher_folder} have different tokenizers",
            "use a student of the teacher's family, or a SPEC such as layers=3",
        )
    student = load_model(folder, labels=model_labels(teacher), target=target_of(read_config(teacher_folder)) or "class")
    return student, folder


def _projections(student: Any, teacher: Any, count: int) -> nn.ModuleList:
    """Return one learned map a pair from the student's width to the teacher's, the identity where they agree (eq. 8)."""
    narrow, wide = model_shape(student).hidden, model_shape(teacher).hidden
    if narrow == wide:
        return nn.ModuleList(nn.Identity() for _ in range(count))
    return nn.ModuleList(nn.Linear(narrow, wide, bias=False) for _ in range(count))


def _loss(
    student: Any, teacher: Any, answers: TeacherOutputs, data: Encoded, target: Target, pairs: list[tuple[int, int]],
    projections: nn.ModuleList, settings: DistillSettings, device: torch.device,
) -> Any:  # fmt: skip
    """Return the loss function of a batch: labels, soft labels, hidden states, weighted as the settings say."""

    def teacher_hidden(batch: Batch, positions: np.ndarray) -> torch.Tensor:
        if answers.hidden is not None:
            return answers.hidden_batch(positions, batch["input_ids"].shape[1]).to(device)
        with torch.no_grad():
            states = teacher(**to_tensors(data.batch(positions), teacher, device), output_hidden_states=True).hidden_states
        return torch.stack([states[number] for _, number in pairs], dim=2)

    def loss_of(batch: Batch, positions: np.ndarray) -> torch.Tensor:
        outputs = student(**batch, output_hidden_states=bool(pairs))
        logits, mask = logits_of(outputs).float(), batch["attention_mask"]
        labels = torch.from_numpy(data.targets(positions)).to(device)
        soft = answers.logits_batch(positions, logits).to(device)
        loss = (1 - settings.hard_weight) * logits_loss(logits, soft, labels, mask, target, settings.temperature)
        if settings.hard_weight:
            loss = loss + settings.hard_weight * task_loss(logits, labels, mask, target)
        if pairs:
            wanted = teacher_hidden(batch, positions)
            for order, (number, _) in enumerate(pairs):
                state = projections[order](outputs.hidden_states[number])
                loss = loss + settings.hidden_weight / len(pairs) * hidden_mse(state, wanted[:, :, order], mask)
        return loss

    return loss_of
