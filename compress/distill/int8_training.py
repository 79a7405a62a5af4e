"""Quantization-aware distillation: a student learns with the rounding of its static int8 graph in place."""

from __future__ import annotations

from pathlib import Path

from compress.core import console, processes
from compress.core.errors import UsageError
from compress.data.encoded import Encoded
from compress.distill.student_spec import parse_spec
from compress.export.graph import build_graph
from compress.export.graph_editing import GraphEditor
from compress.export.verify import subsample
from compress.models.config import read_config
from compress.models.family import family_of
from compress.models.int8_ranges import Range
from compress.models.int8_rounding import Int8Rounding, round_to_int8
from compress.models.named_linears import named_linears
from compress.models.shape import ADAPTER_KEY, CONFIG_KEY
from compress.models.types import TransformersModel
from compress.quantize.calibrate import activation_histograms
from compress.quantize.ranges import CalibrationMethod, calibrated_range
from compress.quantize.static import quantizable_matmuls

CALIBRATED_TEXTS = 512
METHOD: CalibrationMethod = "minmax"


def check_student(student: Path | str | None) -> None:
    """Check that a student's int8 graph has static ranges.

    Raises:
        UsageError: a BiLSTM, a static student, or a model with adapters.
    """
    if isinstance(student, Path):
        config = read_config(student)
        layers, adapted = family_of(config["model_type"]).has_layers, ADAPTER_KEY in (config.get(CONFIG_KEY) or {})
    else:
        layers, adapted = student is None or parse_spec(student).without_layers() is None, False
    if not layers:
        raise UsageError("--quantize int8 trains static ranges, and a student without layers has only dynamic int8", "leave it out")
    if adapted:
        raise UsageError("--quantize does not support students with adapters", "give a student that was trained with --mode full or lora")


def calibrated_ranges(model: TransformersModel, data: Encoded) -> dict[str, Range]:
    """Return the ranges that `quantize --method static` would calibrate for a model, by the names of the graph's matmuls.

    Args:
        model: the student, in evaluation mode.
        data: training examples; 512 of them are used.
    """
    graph = build_graph(model)
    linears = named_linears(model)
    rows = {matmul.node: matmul.rows for matmul in quantizable_matmuls(GraphEditor(graph)) if matmul.node in linears}
    histograms = activation_histograms(graph, list(dict.fromkeys(rows.values())), subsample(data, CALIBRATED_TEXTS))
    return {node: calibrated_range(histograms[value], METHOD) for node, value in rows.items()}


def start_rounding(model: TransformersModel, data: Encoded) -> Int8Rounding:
    """Calibrate a student and let it round, in place, until the rounding is removed; the ranges are trained with the weights."""
    ranges = processes.from_main(lambda: calibrated_ranges(model, data))
    console.info(f"  int8: the inputs of {len(ranges)} matmuls are rounded; ranges calibrated on {min(len(data), CALIBRATED_TEXTS)} texts")
    return round_to_int8(model, ranges, learned=True)
