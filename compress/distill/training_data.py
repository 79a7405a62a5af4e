"""What a student learns from: texts, their encodings for student and teacher, and the teachers' outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from compress.core import console
from compress.data.encoded import Encoded
from compress.data.examples import Examples
from compress.data.input_spec import InputSpec, Target
from compress.data.task import Task
from compress.data.unlabeled import append_unlabeled
from compress.distill.augment import augment_texts
from compress.distill.layer_matching import LayerMatch
from compress.distill.teacher_outputs import TeacherOutputs, compute_teacher_outputs
from compress.distill.teachers import Teachers, mean_logits
from compress.distill.tokenization import check_tokenization, common_mask_token, same_tokens
from compress.distill.word_substitution import substitute_words
from compress.models.device import pick_device
from compress.models.inputs import encode_for
from compress.models.reference import digest_model
from compress.settings import DistillSettings
from compress.settings.distill_losses import PER_TOKEN, RANKED
from compress.training.loop import TrainingPlan
from compress.training.reranker_objective import LIST_SIZE


@dataclass(frozen=True)
class TrainingData:
    """The examples of a distillation with the teachers' outputs on them.

    Attributes:
        student_inputs: n examples encoded by the student's tokenizer, labels numbered as its logits.
        teacher_inputs: the same examples encoded by the first teacher's tokenizer.
        outputs: the teachers' mean logits, and the first one's features.
        same_tokens: whether both tokenizers cut an example into the same tokens, (n,) bool: only there tokens are compared.
        target: what the logits predict.
        labeled: whether the labels are true ones.
        list_size: of lists of candidates, whose pairs are next to each other; 1: there are no lists.
    """

    student_inputs: Encoded
    teacher_inputs: Encoded
    outputs: TeacherOutputs
    same_tokens: np.ndarray
    target: Target
    labeled: bool
    list_size: int = 1

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Return the examples of the lists at `positions`; without lists the positions are those of examples."""
        return (positions[:, None] * self.list_size + np.arange(self.list_size)).ravel()


def list_size(settings: DistillSettings) -> int:
    """Return how many candidates of a query are compared; 1 if no loss compares them."""
    return LIST_SIZE if set(RANKED) & set(settings.losses) else 1


def labeled_and_unlabeled(task: Task, unlabeled: Examples | None, max_examples: int | None = None, seed: int = 0) -> list[Examples]:
    """Return the training split, optional if there are unlabeled texts, followed by these; of each at most `max_examples`."""
    labeled = task.split("train") if unlabeled is None or "train" in task.available else None
    return [part.sample(max_examples, seed) for part in (labeled, unlabeled) if part is not None]


def training_texts(
    task: Task, unlabeled: Examples | None, plan: TrainingPlan[DistillSettings], tokenizers: Sequence[Path]
) -> tuple[Examples, bool]:
    """Return the texts to learn from, augmented as the settings say, and whether all of them have labels.

    Args:
        task: has the training split.
        unlabeled: further texts.
        plan: its settings say how to augment; its seed draws the variants.
        tokenizers: folders of all tokenizers that will encode the texts.
    """
    settings, input_spec = plan.settings, task.spec.input_spec
    if task.retrieval is not None and list_size(settings) > 1:
        lists = task.retrieval.training_lists(LIST_SIZE, settings.max_examples, plan.seed)
        console.info(f"  {len(lists) // LIST_SIZE:,} lists of {LIST_SIZE} candidates")
        return lists, False
    parts = labeled_and_unlabeled(task, unlabeled, settings.max_examples, plan.seed)
    labeled = unlabeled is None and not settings.augment and input_spec.target != "vector" and not task.spec.ranks_candidates
    note = ""
    if settings.augment:
        texts = [text for part in parts for text in part.texts]
        if settings.augment_model:
            device = pick_device(settings.device)
            variants = substitute_words(texts, input_spec, settings.augment, plan.seed, settings.augment_model, device)
        else:
            variants = augment_texts(texts, input_spec, settings.augment, plan.seed, common_mask_token(tokenizers))
        parts.append(variants)
        note = f", {len(variants):,} of them augmented"
    examples = reduce(append_unlabeled, parts)
    console.info(f"  {len(examples):,} training texts{note}")
    return examples, labeled


def with_teacher_outputs(
    examples: Examples, student_inputs: Encoded, tokenizer: Path, teachers: Teachers, input_spec: InputSpec, matches: Sequence[LayerMatch],
    plan: TrainingPlan[DistillSettings], labeled: bool,
) -> TrainingData:  # fmt: skip
    """Compute the teachers' outputs on every example, or read them from the cache.

    Args:
        examples: the texts.
        student_inputs: the same, encoded for the student.
        tokenizer: the folder of the student's tokenizer.
        teachers: the teachers.
        input_spec: of the task.
        matches: the losses of layers, which need features of the first teacher.
        plan: has the device.
        labeled: whether the labels are true ones.

    Raises:
        DataError: student and teacher cut texts into different tokens, and tokens are compared.
        ResourceError: the outputs cannot be cached.
    """

    def encode(folder: Path) -> tuple[Encoded, np.ndarray]:
        if folder == tokenizer:
            return student_inputs, np.ones(len(student_inputs), dtype=bool)
        inputs = encode_for(folder, examples, input_spec)
        return inputs, same_tokens(student_inputs, inputs, tokenizer, folder)

    target, device = input_spec.target, plan.device
    teacher_inputs, same = encode(teachers.folder)
    per_token = [match.method for match in matches if match.method in PER_TOKEN]
    check_tokenization(same, target, per_token, tokenizer, teachers.folder)
    if per_token and not same.all():
        console.info(f"  {int(same.sum()):,} of {len(same):,} texts have the same tokens for student and teacher: layers are matched there")
    features = [feature for match in matches for feature in match.teacher_features]
    outputs = compute_teacher_outputs(teachers.model, digest_model(teachers.folder), teacher_inputs, features, device)
    logits = [outputs.logits]
    for other in teachers.additional:
        inputs, same_here = encode(other.folder)
        check_tokenization(same_here, target, [], tokenizer, other.folder)
        logits.append(compute_teacher_outputs(other.model, digest_model(other.folder), inputs, [], device).logits[:, other.order])
        other.model.to("cpu")  # pyright: ignore[reportArgumentType]
    if teachers.additional:
        outputs = TeacherOutputs(mean_logits(logits), outputs.features, outputs.starts)
    return TrainingData(student_inputs, teacher_inputs, outputs, same, target, labeled, list_size(plan.settings))
