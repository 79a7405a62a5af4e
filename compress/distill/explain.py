"""What a distillation would match, with weights, shapes and projections, from the two shapes alone."""

from __future__ import annotations

from dataclasses import asdict

from compress.distill.defaults import epochs_of
from compress.distill.layer_matching import LayerMatch, match_layers
from compress.distill.module_replacement import layer_groups
from compress.models.shape import Shape
from compress.results import DistillPlan
from compress.results.checkpoints import MatchDocument
from compress.settings import DistillSettings
from compress.settings.distill_losses import OUTPUTS


def explain_training(settings: DistillSettings, teacher: Shape, student: Shape) -> DistillPlan:
    """Return the losses with their weights, and every pair of layers with shapes and projections, as a JSON document.

    A weight is the factor of the loss in the sum: for the teacher's outputs what the labels leave, for several pairs of layers the
    equal share of their method's weight.

    Raises:
        UsageError: as `match_layers` raises it.
    """
    stages: list[dict[str, object]] = [{"losses": "all", "epochs": epochs_of(settings)}]
    if settings.layer_epochs:
        stages = [{"losses": "layers", "epochs": settings.layer_epochs}, {"losses": "outputs", "epochs": epochs_of(settings)}]
    matches = _output_rows(settings, teacher, student)
    matches += [_match_row(match, teacher, student) for match in match_layers(settings, teacher, student)]
    assert settings.temperature is not None  # noqa: S101 (settings have a default)
    return {
        "teacher": _sizes(teacher),
        "student": _sizes(student),
        "temperature": settings.temperature,
        "stages": stages,
        "budget": settings.budget,
        "matches": matches,
    }


def _output_rows(settings: DistillSettings, teacher: Shape, student: Shape) -> list[MatchDocument]:
    """Return the rows of the losses of outputs and labels, and of the layers that method `theseus` replaces."""
    hard = settings.hard_weight or 0.0
    rows = [_row(name, (1 - hard) * weight, "logits", "logits") for name, weight in settings.losses.items() if name in OUTPUTS]
    if "theseus" in settings.losses:
        for number, group in enumerate(layer_groups(len(student.layers), len(teacher.layers)), 1):
            rows.append(_row("theseus", None, f"layers {group.start + 1} to {group.stop}", f"layer {number}"))
        rows.append(_row("labels", 1.0, "-", "logits"))
    elif hard:
        rows.append(_row("labels", hard, "-", "logits"))
    return rows


def _row(method: str, weight: float | None, teacher: str, student: str, projection: str | None = None) -> MatchDocument:
    return {"method": method, "weight": weight, "teacher": teacher, "student": student, "projection": projection}


def _match_row(match: LayerMatch, teacher: Shape, student: Shape) -> MatchDocument:
    above = ", ".join(_layer(number, teacher, match) for number in match.teacher_layers or (match.teacher,))
    if match.student_layers:
        below = f"the nearest of layers {', '.join(map(str, match.student_layers))} ({student.hidden} wide)"
    else:
        below = _layer(match.student, student, match)
    learned = match.projected and (student.hidden != teacher.hidden or match.method == "cofi")
    return _row(match.method, match.weight, above, below, f"{student.hidden} to {teacher.hidden}, learned" if learned else None)


def _layer(number: int, shape: Shape, match: LayerMatch) -> str:
    """Return a layer and the size of its compared feature, as text."""
    name = f"layer {number}" if number else "embeddings"
    if match.method in ("attention", "relations"):
        layer, heads = shape.layers[number - 1], match.relation_heads
        split = f", as {heads} x {layer.heads * shape.head_size // heads}" if heads else ""
        return f"{name} ({layer.heads} heads of {shape.head_size}{split})"
    return f"{name} ({shape.hidden} wide)"


def _sizes(shape: Shape) -> dict[str, object]:
    sizes = {name: asdict(entry) for name, entry in (("lstm", shape.lstm), ("static", shape.static)) if entry is not None}
    return {"hidden": shape.hidden, "head_size": shape.head_size, "layers": shape.as_json(), **sizes}
