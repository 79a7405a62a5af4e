"""Recovery: distil the dense model into a pruned one."""

from __future__ import annotations

from compress.distill.student_training import Student, train_student
from compress.distill.teachers import Teachers
from compress.models.model_shape import model_shape
from compress.models.types import TransformersModel
from compress.prune.context import PruneContext
from compress.prune.joint_refit import pruned_lr, state_matching
from compress.settings import DistillSettings
from compress.training.learning_rate import default_lr
from compress.training.loop import TrainingPlan


def recover(context: PruneContext, model: TransformersModel, epochs: int) -> None:
    """Distil the dense model into a pruned one on training and unlabeled texts, in place; leaves it on the CPU.

    Args:
        context: of the run.
        model: the pruned model.
        epochs: passes over the texts; with 0 nothing happens.

    Raises:
        Diverged: a loss or a gradient is not finite.
    """
    if not epochs:
        return
    dense = context.dense
    unlabeled = context.calibration.examples if context.settings.unlabeled else None
    settings, metric = _settings(context, model, epochs), context.main_metric
    plan = TrainingPlan(settings, dense.seed, context.inputs.resume, lr_option="--recover-lr", metric=metric)
    teachers = Teachers(dense.model, dense.source, dense.classes)
    result = train_student(Student(model, dense.source), teachers, dense.task, plan, unlabeled)
    if result.training.diverged:
        raise result.training.diverged
    model.to("cpu")


def _settings(context: PruneContext, model: TransformersModel, epochs: int) -> DistillSettings:
    settings = context.settings
    options: dict[str, object] = {
        "epochs": epochs,
        "augment": settings.augment,
        "augment_model": settings.augment_model,
        "device": settings.device,
    }
    if model_shape(model).hidden == context.dense.shape.hidden:
        options |= {"lr": settings.recover_lr or pruned_lr(model), **state_matching(context.origins(model))}
    else:  # states of another width need learned projections: one, for the last layer, is enough
        options |= {"lr": settings.recover_lr or default_lr(model), "method": ["logits", "hidden"]}
    return DistillSettings.model_validate(options)
