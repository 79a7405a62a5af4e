"""Speed and size of students of other shapes on this machine, timed with random weights before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.core import console
from compress.core.caches import measured_once
from compress.core.errors import CompressError
from compress.data.input_spec import Target
from compress.search.space import Space
from compress.stage import STUDENTS

if TYPE_CHECKING:
    from compress.models.shape import Shape
    from compress.models.types import TransformersModel

VERSION = 1
ROUNDS = 40


@dataclass(frozen=True)
class ShapeFacts:
    """Speed and size of a shape that is not trained yet.

    Attributes:
        speedup: of its int8 form over the unpruned model's int8 form.
        params: its parameters.
    """

    speedup: float
    params: int


def time_shapes(folder: Path, labels: list[str], target: Target, space: Space, specs: Sequence[str]) -> dict[str, ShapeFacts]:
    """Return speed and size of students by their SPEC, without those that the model cannot initialise or that cannot be timed.

    Measurements are cached by machine, as latency tables are.

    Args:
        folder: of the model that is made smaller.
        labels: of the task.
        target: what is predicted.
        space: says how models are served.
        specs: of students with layers, or BiLSTMs.
    """
    from compress.distill.student_spec import shape_of_student, shared_as_teacher
    from compress.models.checkpoint import load_model
    from compress.models.family import family_of
    from compress.models.model_shape import count_params, model_shape
    from compress.prune.latency_table import skeleton
    from compress.prune.serving_clock import Serving, ServingClock

    point = space.serving
    serving = Serving(space.runtime, space.precision, point.batch_size, point.seq_len, point.threads)
    model = load_model(folder, labels=labels, target=target)
    shape, vocabulary = model_shape(model), model.config.vocab_size
    dense = skeleton(model, tuple((layer.heads, layer.ffn) for layer in shape.layers))
    dimensions = [model.config.model_type, type(model).__name__, shape.hidden, shape.head_size, shape.as_json(), vocabulary]
    clock = ServingClock(dense, serving)
    facts: dict[str, ShapeFacts] = {}
    for spec in specs:

        def measure(spec: str = spec) -> dict[str, object]:
            student_shape = shape_of_student(STUDENTS.get(spec, spec), shape)
            if family_of(model.config.model_type).grouped and not student_shape.without_layers:
                student_shape = shared_as_teacher(student_shape, shape)
            student = _untrained(dense, student_shape)
            width = getattr(student.config, "embedding_size", None) or student_shape.hidden
            entries = vocabulary - student.config.vocab_size
            return {"speedup": clock.speedup(student, ROUNDS)[0], "params": count_params(student) + entries * width}

        try:
            measured = measured_once("shapes", [VERSION, dimensions, spec, asdict(serving)], measure)[0]
        except CompressError as error:
            console.info(f"  no student {spec}: {error.message}")
            continue
        facts[spec] = ShapeFacts(float(measured["speedup"]), int(measured["params"]))
    return facts


def _untrained(dense: TransformersModel, shape: Shape) -> TransformersModel:
    """Return a model of a shape with random weights, and the vocabulary and head of `dense`."""
    from compress.distill.bilstm_student import create_bilstm
    from compress.distill.importance_init import randomly_initialized
    from compress.models.model_shape import model_shape
    from compress.models.shape import LstmShape
    from compress.prune.latency_table import skeleton

    if isinstance(shape.without_layers, LstmShape):
        return create_bilstm(dense, shape.without_layers, "random")
    if shape.hidden != model_shape(dense).hidden:
        return randomly_initialized(dense, shape)
    return skeleton(dense, tuple((layer.heads, layer.ffn) for layer in shape.layers), shape.shared)
