"""Several teachers that answer as one, and a student that cuts texts otherwise than its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compress.core.errors import DataError
from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.data.task import Task
from compress.models.checkpoint import load_model
from compress.models.config import read_config
from compress.models.head import model_labels
from compress.models.label_mapping import logit_positions, map_labels
from compress.models.tokenizer import load_tokenizer, mask_token


@dataclass(frozen=True)
class Teacher:
    """A further teacher, whose logits join the first one's. `order` is its logit for each logit of the first, (logits,) int64."""

    model: Any
    folder: Path
    order: np.ndarray


def load_teacher(folder: Path, task: Task, first: Any, classes: np.ndarray) -> Teacher:
    """Load a further teacher; its labels may stand in another order than the first one's.

    Args:
        folder: of the teacher.
        task: what both answer.
        first: the first teacher.
        classes: the task's class of each of the first one's logits.

    Raises:
        ModelError, DataError: no such model, or one that does not know a label of the first.
    """
    model = load_model(folder, target=task.spec.target)
    own = logit_positions(map_labels(read_config(folder), task, folder.name))
    names = model_labels(model)
    order = []
    for label, number in zip(model_labels(first), classes.tolist(), strict=True):
        if number < 0 and label not in names:
            raise DataError(
                f"{folder.name} does not know the label '{label}' of the first teacher",
                "use teachers that were fine-tuned on the same labels",
            )
        order.append(int(own[number]) if number >= 0 else names.index(label))
    return Teacher(model, folder, np.array(order, dtype=np.int64))


def mean_logits(all_logits: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of several teachers' logits of the same classes in the same order.

    For classes this is the normalised geometric mean of their distributions (Hinton et al. 2015, section 1), at any temperature.
    """
    return np.stack(all_logits).mean(axis=0).astype(np.float32)


def same_tokens(student: Encoded, teacher: Encoded, student_folder: Path, teacher_folder: Path) -> np.ndarray:
    """Tell of each example whether student and teacher cut it into the same tokens, whatever these are numbered: (n,) bool.

    Args:
        student: the examples as the student's tokenizer cuts them.
        teacher: the same examples as the teacher's does.
        student_folder: of the student's tokenizer.
        teacher_folder: of the teacher's.
    """
    if len(student) != len(teacher):  # long texts in other windows
        return np.zeros(len(student), dtype=bool)
    numbers = load_tokenizer(teacher_folder).get_vocab()
    names = load_tokenizer(student_folder).get_vocab()
    renumbered = np.full(max(names.values(), default=0) + 1, -1, dtype=np.int64)
    for name, number in names.items():
        renumbered[number] = numbers.get(name, -1)
    return np.array([np.array_equal(renumbered[a], b) for a, b in zip(student.input_ids, teacher.input_ids, strict=True)], dtype=bool)


def common_mask(folders: Sequence[Path]) -> str | None:
    """Return the mask that the tokenizers of all these folders have, or None."""
    masks = {mask_token(load_tokenizer(folder)) for folder in set(folders)}
    return masks.pop() if len(masks) == 1 else None


def check_tokens(same: np.ndarray, target: Target, per_token: Sequence[str], student: Path, teacher: Path) -> None:
    """Check that what is compared token by token has the same tokens on both sides.

    Args:
        same: as `same_tokens` tells.
        target: of the task.
        per_token: the methods that compare tokens.
        student: the folder of its tokenizer.
        teacher: the folder of its tokenizer.

    Raises:
        DataError: tokens are answered, and some example has others; or a method compares tokens, and none has the same.
    """
    if target in ("tags", "span") and not same.all():
        raise DataError(
            f"student {student} and teacher {teacher} have different tokenizers: they cut {int((~same).sum()):,} of {len(same):,} texts "
            "otherwise, and this task is answered token by token",
            "use a student with the teacher's tokenizer; of a SPEC, keep more words (vocab=N) or all",
        )
    if per_token and not same.any():
        raise DataError(
            f"student {student} and teacher {teacher} have different tokenizers, and method {per_token[0]} compares their tokens",
            "use --method logits (and pkd, which compares first tokens), or a student with the teacher's tokenizer",
        )
