"""Epochs and learning rate of a distillation that the settings leave open.

See docs/decisions/0019-logits-across-widths.md.
"""

from __future__ import annotations

import math

from compress.models.family import family_of
from compress.models.head import model_labels
from compress.models.types import TransformersModel
from compress.settings import DistillSettings
from compress.training.learning_rate import MANY_LABELS, base_lr, default_lr

MIN_STEPS = 1000  # that few examples are repeated for
MIN_EPOCHS, MAX_EPOCHS = 3, 10


def labels_only(settings: DistillSettings) -> bool:
    """Return whether the loss ignores the teacher's outputs: training then has the epochs and learning rate of `finetune`."""
    return settings.hard_weight == 1 or "theseus" in settings.losses


def epochs_of(settings: DistillSettings, examples: int | None = None) -> int | None:
    """Return the number of epochs, of the last stage if there are two.

    By default `MIN_EPOCHS`; with few examples as many as make `MIN_STEPS` steps, at most `MAX_EPOCHS`, because a teacher's logits
    are overfitted less than labels.

    Args:
        settings: of the distillation.
        examples: number of texts, or of windows of long ones.

    Returns:
        The epochs; None with a time budget, or if they depend on the unknown number of examples.
    """
    if settings.epochs is not None or settings.budget is not None:
        return settings.epochs
    if labels_only(settings):
        return MIN_EPOCHS
    if examples is None:
        return None
    return min(max(math.ceil(MIN_STEPS / math.ceil(examples / settings.batch_size)), MIN_EPOCHS), MAX_EPOCHS)


def student_lr(student: TransformersModel, narrowed: bool = False) -> float:
    """Return the default peak learning rate of a student on its teacher's outputs.

    Args:
        student: the model.
        narrowed: whether it was initialised from its teacher at another width and so is far from a trained model: it takes 5e-4,
            above 512 wide 1.5e-4. Other students take twice the rate of `finetune`; BiLSTMs, static students and students with
            more than 20 labels the same rate.
    """
    if not family_of(student.config.model_type).has_layers:
        return default_lr(student)
    if narrowed:
        return 5 * base_lr(student)
    return default_lr(student) if len(model_labels(student)) > MANY_LABELS else 2 * base_lr(student)


def with_defaults(settings: DistillSettings, student: TransformersModel, narrowed: bool, examples: int) -> DistillSettings:
    """Return the settings with the epochs and the learning rate filled in; see `epochs_of` and `student_lr`."""
    lr = student_lr(student, narrowed) if settings.lr is None and not labels_only(settings) else settings.lr
    return settings.model_copy(update={"epochs": epochs_of(settings, examples), "lr": lr})
