"""BERT-of-Theseus (Xu et al. 2020, arXiv 2002.02925): the student's layers take the places of the teacher's, one by one.

A module is one layer of the student and the consecutive layers of the teacher that it stands for. In every step each module is
the student's with probability p = min(1, 0.3 + k t), else the teacher's, whose weights do not change; the loss is the task's.
From the middle of training on the student runs alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from compress.core.errors import UsageError
from compress.distill.layer_matching import spread
from compress.editing.encoder_layers import replaced_layers
from compress.models.device import Batch
from compress.models.family import Family
from compress.models.layers import layer_list
from compress.models.shape import Shape

START = 0.3  # the probability at the first step
ALONE_FROM = 0.5  # the share of the steps after which it is 1


def probability(step: int, steps: int) -> float:
    """Return with which probability a module is the student's, at a step of `steps`.

    >>> [probability(step, 10) for step in (0, 5, 9)]
    [0.3, 1.0, 1.0]
    """
    return min(1.0, START + (1 - START) * step / max(1.0, ALONE_FROM * steps))


class Replacement:
    """Runs a student with some of its teacher's layers in the places of its own, fewer with every step."""

    def __init__(self, student: Any, teacher: Any, steps: int, seed: int) -> None:
        self.student, self.teacher, self.steps, self.seed = student, teacher, steps, seed
        ends = [number + 1 for number in spread(len(layer_list(student)), len(layer_list(teacher)))]
        self.groups = [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        teacher.requires_grad_(False)
        self.at(0)

    def at(self, step: int) -> None:
        """Draw the layers of a step: by its number alone, so that all processes draw alike, and one that goes on as before."""
        drawn = np.random.default_rng((self.seed, step)).random(len(self.groups))
        self.own = (drawn < probability(step, self.steps)).tolist()

    def __call__(self, batch: Batch) -> Any:
        """Return the outputs of the step's mixed model on a batch."""
        # The masks that the encoder makes suit its own kind of attention.
        self.teacher.config._attn_implementation = self.student.config._attn_implementation
        with replaced_layers(layer_list(self.student), self.mixed(self.own)):
            return self.student(**batch)

    def mixed(self, own: list[bool]) -> list[nn.Module]:
        """Return the layers to run: for each module the student's layer, or the teacher's that it stands for."""
        students, teachers = list(layer_list(self.student)), list(layer_list(self.teacher))
        parts = [
            [layer] if ours else [teachers[number] for number in group]
            for layer, ours, group in zip(students, own, self.groups, strict=True)
        ]
        return [layer for part in parts for layer in part]


def check_replaceable(student: Shape, teacher: Shape, made: bool, family: Family) -> None:
    """Check that a student's layers can take the places of its teacher's.

    Args:
        student: the student's shape.
        teacher: its teacher's.
        made: whether the student was made of the teacher's layers.
        family: of both.

    Raises:
        UsageError: it was not, or its width is another, or, where a bias of positions is added to every head's scores, its heads.
    """
    other_heads = bool(family.position_bias) and student.head_size != teacher.head_size  # whose table has a column for each of its own
    if not made or student.hidden != teacher.hidden or other_heads:
        raise UsageError(
            f"method theseus needs a student made of the teacher's own layers, as wide as the teacher{', with its heads' * other_heads}",
            "give --student layers=K, or another method",
        )
