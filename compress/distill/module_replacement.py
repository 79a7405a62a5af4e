"""BERT-of-Theseus (Xu et al. 2020, arXiv 2002.02925): the student's layers progressively replace the teacher's.

A module is one layer of the student and the consecutive teacher layers that it replaces. In every step each module runs as the
student's layer with probability p = min(1, 0.3 + k t), else as the teacher's layers, whose weights are frozen; the loss is the task's.
In the second half of training the student runs alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from compress.core.errors import UsageError
from compress.distill.layer_matching import evenly_spaced_layers
from compress.editing.encoder_layers import replaced_layers
from compress.models.family import Family
from compress.models.layers import layer_list
from compress.models.shape import Shape
from compress.models.types import TransformersModel

START = 0.3  # the probability in the first step
ALONE_FROM = 0.5  # the share of the steps after which it is 1


def replacement_probability(step: int, steps: int) -> float:
    """Return the probability that a module runs as the student's layer in a step of `steps`.

    >>> [replacement_probability(step, 10) for step in (0, 5, 9)]
    [0.3, 1.0, 1.0]
    """
    return min(1.0, START + (1 - START) * step / max(1.0, ALONE_FROM * steps))


def layer_groups(student_layers: int, teacher_layers: int) -> list[range]:
    """Return for each student layer the teacher layers (from 0) that it replaces.

    >>> layer_groups(2, 4)
    [range(0, 2), range(2, 4)]
    """
    ends = [number + 1 for number in evenly_spaced_layers(student_layers, teacher_layers)]
    return [range(start, end) for start, end in zip([0, *ends], ends, strict=False)]


class ModuleReplacement:
    """Runs a student with some of its teacher's layers instead of its own, fewer with every step.

    Args:
        student: a model whose layers replace the teacher's.
        teacher: a model of the same family and width; its weights are frozen.
        steps: number of training steps.
        seed: of the random selection.
    """

    def __init__(self, student: TransformersModel, teacher: TransformersModel, steps: int, seed: int) -> None:
        self.student, self.teacher, self.steps, self.seed = student, teacher, steps, seed
        self.groups = layer_groups(len(layer_list(student)), len(layer_list(teacher)))
        teacher.requires_grad_(False)
        self.select_layers(0)

    def select_layers(self, step: int) -> None:
        """Select the layers of a step from its number alone, so that all processes, and a resumed training, select the same."""
        draws = np.random.default_rng((self.seed, step)).random(len(self.groups))
        self.from_student: list[bool] = (draws < replacement_probability(step, self.steps)).tolist()

    def __call__(self, **batch: torch.Tensor) -> object:
        """Return the outputs of the current mixed model on a batch."""
        # The attention masks that the encoder makes suit its own implementation of attention.
        self.teacher.config._attn_implementation = self.student.config._attn_implementation
        with replaced_layers(layer_list(self.student), self.mixed_layers(self.from_student)):
            return self.student(**batch)

    def mixed_layers(self, from_student: Sequence[bool]) -> list[nn.Module]:
        """Return the layers to run: for each module the student's layer, or the teacher's that it replaces."""
        students, teachers = list(layer_list(self.student)), list(layer_list(self.teacher))
        mixed: list[nn.Module] = []
        for layer, chosen, group in zip(students, from_student, self.groups, strict=True):
            mixed += [layer] if chosen else [teachers[number] for number in group]
        return mixed


def check_replaceable(student: Shape, teacher: Shape, from_teacher: bool, family: Family) -> None:
    """Check that a student's layers can replace its teacher's.

    Args:
        student: the student's shape.
        teacher: the teacher's shape.
        from_teacher: whether the student was initialised with the teacher's layers.
        family: of both.

    Raises:
        UsageError: it was not, or the widths differ, or, in a family with a position bias for each head, the heads.
    """
    other_heads = bool(family.position_bias) and student.head_size != teacher.head_size
    if not from_teacher or student.hidden != teacher.hidden or other_heads:
        raise UsageError(
            "method theseus needs a student initialised from the teacher's layers, with the same width"
            f"{' and the same heads' * other_heads}",
            "give --student layers=K, or use another method",
        )
