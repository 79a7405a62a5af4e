"""Student shapes: a SPEC such as `layers=3` takes layers of the teacher."""

from __future__ import annotations

import copy
from typing import Any

from compress.errors import UsageError, did_you_mean
from compress.model.checkpoint import model_shape
from compress.model.stack import keep_layers


def parse_spec(spec: str) -> int:
    """Return the number of layers that a SPEC asks for.

    Raises:
        UsageError: an unknown key or a value that is no positive number.
    """
    parts = (part.partition("=") for part in spec.replace(" ", "").split(","))
    fields = {key: value for key, _, value in parts}
    unknown = [key for key in fields if key != "layers"]
    if unknown:
        raise UsageError(
            f"the student '{spec}' has the key '{unknown[0]}'{did_you_mean(unknown[0], ['layers'])}",
            "a student made from its teacher is written layers=K; for another width give a model folder",
        )
    if not fields["layers"].isdecimal() or not 1 <= int(fields["layers"]) <= 1000:
        raise UsageError(f"the student '{spec}' needs a positive number of layers", "for example layers=3")
    return int(fields["layers"])


def spread(student_layers: int, teacher_layers: int) -> list[int]:
    """Return the teacher layers that a shallower student takes: evenly spread, the last one included.

    >>> spread(3, 6)
    [1, 3, 5]
    """
    return [round((number + 1) * teacher_layers / student_layers) - 1 for number in range(student_layers)]


def take_layers(teacher: Any, count: int) -> Any:
    """Return a copy of the teacher with `count` of its layers; embeddings, pooler and head are copied whole.

    Raises:
        UsageError: more layers than the teacher has.
    """
    layers = len(model_shape(teacher).layers)
    if count > layers:
        raise UsageError(f"a student of {count} layers cannot be taken from a teacher of {layers}")
    student = copy.deepcopy(teacher)
    keep_layers(student, spread(count, layers))
    return student


def layer_map(student_layers: int, teacher_layers: int, match: str) -> list[tuple[int, int]]:
    """Pair hidden states (1 = after the first layer) of student and teacher.

    `last` pairs the last ones only, which overfits least on small data (Ko et al. 2023, arXiv 2302.01530); `uniform` pairs every
    student layer with the teacher layer at the same relative depth (Jiao et al. 2020).
    """
    if match == "last":
        return [(student_layers, teacher_layers)]
    return [(number + 1, max(1, round((number + 1) * teacher_layers / student_layers))) for number in range(student_layers)]
