"""What a distillation would match with what, told without training; from the two shapes alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from compress.distill.layer_matching import Match, labels_alone, matches, spread
from compress.distill.student_training import EPOCHS
from compress.models.shape import Shape
from compress.settings import DistillSettings


def explanation(settings: DistillSettings, teacher: Shape, student: Shape) -> dict[str, Any]:
    """Return the losses with their weights, and every pair of layers with shapes and projections, as a JSON document.

    A weight is what the loss is multiplied by: of the teacher's answers that is what the labels leave, and of several pairs
    their method's weight shared out.

    Raises:
        UsageError: as `matches` raises it.
    """
    hard = settings.hard_weight or 0.0
    rows: list[dict[str, Any]] = []
    for name, weight in settings.losses.items():
        if name in ("logits", "dkd"):
            rows.append(_row(name, (1 - hard) * weight, "logits", "logits"))
    if "theseus" in settings.losses:
        ends = [number + 1 for number in spread(len(student.layers), len(teacher.layers))]
        for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False), 1):
            rows.append(_row("theseus", None, f"layers {start + 1} to {end}", f"layer {number}"))
        rows.append(_row("labels", 1.0, "-", "logits"))
    elif hard:
        rows.append(_row("labels", hard, "-", "logits"))
    rows += [_of_match(match, teacher, student) for match in matches(settings, teacher, student)]
    epochs = EPOCHS[0] if settings.epochs is None and settings.budget is None and labels_alone(settings) else settings.epochs
    stages: list[dict[str, Any]] = [{"losses": "all", "epochs": epochs}]
    if settings.layer_epochs:
        stages = [{"losses": "layers", "epochs": settings.layer_epochs}, {"losses": "outputs", "epochs": settings.epochs}]
    return {
        "teacher": _shape(teacher),
        "student": _shape(student),
        "temperature": settings.temperature,
        "stages": stages,
        "budget": settings.budget,
        "matches": rows,
    }


def _row(method: str, weight: float | None, teacher: str, student: str, projection: str | None = None) -> dict[str, Any]:
    return {"method": method, "weight": weight, "teacher": teacher, "student": student, "projection": projection}


def _of_match(match: Match, teacher: Shape, student: Shape) -> dict[str, Any]:
    above = ", ".join(_place(number, teacher, match) for number in match.teachers or (match.teacher,))
    if match.students:
        below = f"the nearest of layers {', '.join(map(str, match.students))} ({student.hidden} wide)"
    else:
        below = _place(match.student, student, match)
    learned = match.projected and (student.hidden != teacher.hidden or match.method == "cofi")
    return _row(match.method, match.weight, above, below, f"{student.hidden} to {teacher.hidden}, learned" if learned else None)


def _place(number: int, shape: Shape, match: Match) -> str:
    """Write a layer and what of it is looked at."""
    name = f"layer {number}" if number else "embeddings"
    if match.method in ("attention", "relations"):
        layer = shape.layers[number - 1]
        cut = f", as {match.heads} x {layer.heads * shape.head_size // match.heads}" if match.heads else ""
        return f"{name} ({layer.heads} heads of {shape.head_size}{cut})"
    return f"{name} ({shape.hidden} wide)"


def _shape(shape: Shape) -> dict[str, Any]:
    sizes = {} if shape.lstm is None else {"lstm": asdict(shape.lstm)}
    return {"hidden": shape.hidden, "head_size": shape.head_size, "layers": shape.as_json(), **sizes}
