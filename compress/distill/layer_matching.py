"""Which layers of student and teacher are matched by which loss: worked out from the settings and the two shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compress.core.errors import UsageError
from compress.data.input_spec import Target
from compress.distill.features import PROJECTED, Feature
from compress.models.shape import Shape
from compress.settings import DistillSettings
from compress.settings.distill_losses import OUTPUTS, Pairs

COFI_LAYERS = 4  # of the teacher; of twelve layers the third, sixth, ninth and last
LEAST_CLASSES = 3  # from which DKD differs from the logits loss


@dataclass(frozen=True)
class Match:
    """A loss between a layer of the teacher and one of the student (0: the embeddings).

    `weight` is that of the pair: of a loss with several pairs, its weight shared out evenly. `heads` are relation heads.
    For `cofi` `teachers` are the layers to be met, and `students` those among which theirs are sought, batch by batch.
    """

    method: str
    weight: float
    teacher: int = 0
    student: int = 0
    heads: int = 0
    teachers: tuple[int, ...] = ()
    students: tuple[int, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of feature that the loss compares."""
        return {"attention": PROJECTED[:2], "relations": PROJECTED}.get(self.method, ("hidden",))

    @property
    def of_teacher(self) -> list[Feature]:
        """The teacher's features that are needed."""
        return [(kind, number) for kind in self.kinds for number in self.teachers or (self.teacher,)]

    @property
    def of_student(self) -> list[Feature]:
        """The student's features that are needed."""
        return [(kind, number) for kind in self.kinds for number in self.students or (self.student,)]

    @property
    def projected(self) -> bool:
        """Whether states are compared dimension by dimension, so that widths must be made to agree."""
        return self.method in ("hidden", "nmse", "pkd", "cofi")


def spread(student_layers: int, teacher_layers: int) -> list[int]:
    """Return the teacher layers (from 0) that a shallower student takes: evenly spread, the last one included.

    >>> spread(3, 6)
    [1, 3, 5]
    """
    return [round((number + 1) * teacher_layers / student_layers) - 1 for number in range(student_layers)]


def layer_map(student_layers: int, teacher_layers: int, match: str) -> list[tuple[int, int]]:
    """Pair hidden states (1 = after the first layer, 0 = the embeddings) of student and teacher.

    `last` pairs the last ones only, which overfits least on small data (Ko et al. 2023, arXiv 2302.01530); `uniform` pairs every
    student layer with the teacher layer at the same relative depth (Jiao et al. 2020), `all` the embeddings as well.
    """
    if match == "last":
        return [(student_layers, teacher_layers)]
    pairs = [(number + 1, max(1, round((number + 1) * teacher_layers / student_layers))) for number in range(student_layers)]
    return [(0, 0), *pairs] if match == "all" else pairs


def matches(settings: DistillSettings, teacher: Shape, student: Shape) -> list[Match]:
    """Return every match of layers that the settings ask for.

    Raises:
        UsageError: a layer that a model does not have, or two that the loss cannot compare.
    """
    found: list[Match] = []
    layered = settings.layers_matched
    for method, weight in settings.losses.items():
        if method == "cofi":
            found.append(_cofi(weight, teacher, student))
        elif method in layered:
            pairs = _pairs(method, layered[method], len(teacher.layers), len(student.layers))
            for below, above in pairs:
                found.append(_checked(Match(method, weight / len(pairs), above, below), settings.relation_heads, teacher, student))
    return found


def without_layers(settings: DistillSettings, teacher: Shape, student: Shape) -> DistillSettings:
    """Return the settings without the default's losses of layers where the two have no layers, or none alike.

    A BiLSTM has no layers. States of another width are compared by maps that are to be learned first: with the default's weight
    that takes all of a short training (docs/decisions/0019-logits-across-widths.md).

    Raises:
        UsageError: losses or pairs of layers were asked for, of a BiLSTM.
    """
    layered, default = [name for name in settings.losses if name not in OUTPUTS], DistillSettings.model_fields["method"].default
    recurrent = teacher.lstm is not None or student.lstm is not None
    if not layered or not (recurrent or teacher.hidden != student.hidden):
        return settings
    if not recurrent and (settings.method != default or settings.match or settings.layer_epochs):
        return settings
    given = {
        f"method {layered[0]}": settings.method != default,
        "layer_epochs": bool(settings.layer_epochs),
        f"match {settings.match}": ":" in (settings.match or ""),
    }
    asked = next((name for name, there in given.items() if there), None)
    if asked is not None:
        raise UsageError(f"{asked} works on layers, and a BiLSTM has none", "use --method logits, or dkd")
    return settings.model_copy(update={"method": [name for name in settings.losses if name in OUTPUTS]})


def labels_alone(settings: DistillSettings) -> bool:
    """Tell whether the teacher's answers count for nothing: then training is that of `finetune`, with its rate and epochs."""
    return settings.hard_weight == 1 or "theseus" in settings.losses


def check_target(settings: DistillSettings, target: Target, classes: int) -> None:
    """Check that the methods fit what the task asks for.

    Raises:
        UsageError: DKD without classes, or with two.
    """
    if "dkd" not in settings.losses:
        return
    if target in ("labels", "value"):
        raise UsageError("method dkd splits one true class from the others, and this task has none", "use method logits")
    if target != "span" and classes < LEAST_CLASSES:
        raise UsageError(
            f"method dkd needs three classes or more, and this task has {classes}",
            "with two the other class has all of the rest: use method logits",
        )


def _pairs(method: str, wanted: str | Pairs, teacher_layers: int, student_layers: int) -> list[tuple[int, int]]:
    """Return (student, teacher) layers, checked."""
    lowest = 1 if method in ("attention", "relations") else 0
    if isinstance(wanted, str):
        return [pair for pair in layer_map(student_layers, teacher_layers, wanted) if pair[0] >= lowest]
    for name, position, layers in (("teacher", 0, teacher_layers), ("student", 1, student_layers)):
        for pair in wanted:
            if not lowest <= pair[position] <= layers:
                raise UsageError(
                    f"{method}:{pair[0]}-{pair[1]}: the {name} has no layer {pair[position]} (it has {lowest} to {layers})",
                    "write TEACHER-STUDENT, layers counted from 1" + ("" if lowest else "; 0 are the embeddings"),
                )
    return [(below, above) for above, below in wanted]


def _checked(match: Match, relation_heads: int | None, teacher: Shape, student: Shape) -> Match:
    if match.method not in ("attention", "relations"):
        return match
    above, below = teacher.layers[match.teacher - 1].heads, student.layers[match.student - 1].heads
    where = f"{match.method}: layer {match.teacher} of the teacher and layer {match.student} of the student"
    if not above or not below:
        raise UsageError(f"{where} cannot be matched: the {'student' if above else 'teacher'}'s has no heads", "match other layers")
    if match.method == "attention":
        if above != below:
            raise UsageError(
                f"{where} have {above} and {below} heads, and scores are matched head by head",
                "use method relations, which works across heads and widths",
            )
        return match
    widths = above * teacher.head_size, below * student.head_size
    if relation_heads is None:
        heads = _relation_heads(above, *widths)
    elif any(width % relation_heads for width in widths):
        common = math.gcd(*widths)
        raise UsageError(
            f"{where} are {widths[0]} and {widths[1]} wide, which {relation_heads} relation heads do not divide",
            f"--relation-heads must divide {common}",
        )
    else:
        heads = relation_heads
    return Match(match.method, match.weight, match.teacher, match.student, heads)


def _relation_heads(heads: int, *widths: int) -> int:
    """Return the largest number of relation heads up to the teacher's heads that divides both widths."""
    common = math.gcd(*widths)
    return max(number for number in range(1, heads + 1) if common % number == 0)


def _cofi(weight: float, teacher: Shape, student: Shape) -> Match:
    """Return CoFi's layers of the teacher, to be matched with the student's surviving layers."""
    surviving = tuple(number for number, layer in enumerate(student.layers, 1) if layer.heads or layer.ffn)
    if not surviving:
        raise UsageError("cofi: the student has no layer with a head or a neuron left", "use method logits")
    chosen = spread(min(COFI_LAYERS, len(teacher.layers)), len(teacher.layers))
    return Match("cofi", weight, teachers=tuple(number + 1 for number in chosen), students=surviving)
