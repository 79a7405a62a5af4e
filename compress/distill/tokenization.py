"""Students and teachers with different tokenizers: where their tokens agree, and what needs them to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from compress.core.errors import DataError
from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.models.tokenizer import load_tokenizer, mask_token


def same_tokens(student: Encoded, teacher: Encoded, student_folder: Path, teacher_folder: Path) -> np.ndarray:
    """Return for each example whether student and teacher cut it into the same tokens, whatever their ids: (n,) bool.

    Args:
        student: the examples encoded by the student's tokenizer.
        teacher: the same examples encoded by the teacher's.
        student_folder: of the student's tokenizer.
        teacher_folder: of the teacher's.
    """
    if len(student) != len(teacher):  # long texts in different windows
        return np.zeros(len(student), dtype=bool)
    teacher_ids = load_tokenizer(teacher_folder).get_vocab()
    student_ids = load_tokenizer(student_folder).get_vocab()
    to_teacher = np.full(max(student_ids.values(), default=0) + 1, -1, dtype=np.int64)  # from a student's id to the teacher's
    for token, number in student_ids.items():
        to_teacher[number] = teacher_ids.get(token, -1)
    return np.array([np.array_equal(to_teacher[a], b) for a, b in zip(student.input_ids, teacher.input_ids, strict=True)], dtype=bool)


def common_mask_token(folders: Sequence[Path]) -> str | None:
    """Return the mask token that the tokenizers in all these folders share, or None."""
    masks = {mask_token(load_tokenizer(folder)) for folder in set(folders)}
    return masks.pop() if len(masks) == 1 else None


def check_tokenization(same: np.ndarray, target: Target, per_token: Sequence[str], student: Path, teacher: Path) -> None:
    """Check that student and teacher have the same tokens where tokens are compared.

    Args:
        same: as `same_tokens` returns it.
        target: of the task.
        per_token: the methods that compare tokens.
        student: the folder of its tokenizer.
        teacher: the folder of its tokenizer.

    Raises:
        DataError: the task has predictions for each token, and some example has different tokens; or a method compares tokens, and
            every example has different ones.
    """
    if target in ("tags", "span", "mentions") and not same.all():
        raise DataError(
            f"student {student} and teacher {teacher} have different tokenizers: {int((~same).sum()):,} of {len(same):,} texts have "
            "different tokens, and this task has a prediction for each token",
            "use a student with the teacher's tokenizer; in a SPEC, keep more tokens (vocab=N) or all",
        )
    if per_token and not same.any():
        raise DataError(
            f"student {student} and teacher {teacher} have different tokenizers, and method {per_token[0]} compares their tokens",
            "use --method logits (and pkd, which compares first tokens), or a student with the teacher's tokenizer",
        )
