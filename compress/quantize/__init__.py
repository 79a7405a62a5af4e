"""Post-training quantization: the stage `quantize`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx

from compress import console, fs, machine
from compress.errors import GateMissed, ModelError, UsageError
from compress.export import RUNTIME_HINTS, announce, recorded_reading, verification_data, write_artifact
from compress.export import run as export_run
from compress.export.verify import verify
from compress.model.artifact import OnnxModel
from compress.model.config import GRAPH, is_graph, read_config
from compress.model.scorer import measure
from compress.model.shape import shape_of_config
from compress.quantize.dynamic import needs_seven_bits, quantize_dynamic, quantized_share
from compress.quantize.embeddings import quantize_embeddings
from compress.settings import ExportSettings, QuantizeSettings
from compress.stage import Inputs
from compress.task.encode import encode_for
from compress.task.labels import connect
from compress.task.metrics import points_lost


def run(inputs: Inputs, settings: QuantizeSettings, output: Path) -> dict[str, Any]:
    """Quantize a checkpoint or an ONNX artifact, compare it with its float form, and hold it to `max_drop`.

    Raises:
        UsageError: `max_drop` without a task.
        ModelError: the source is quantized already.
        GateMissed: validation lost more than `max_drop` points.
    """
    if settings.max_drop is not None and inputs.task_or_none is None:
        raise UsageError("--max-drop needs data to measure the drop on", "give --task T, or --validation, --text and --label")
    with tempfile.TemporaryDirectory() as scratch:
        source = inputs.source if is_graph(inputs.source) else _exported(inputs, Path(scratch))
        float_graph = _read_graph(source / GRAPH)
        if quantized_share(float_graph)[0]:
            raise ModelError(f"{inputs.source} is quantized already", "give the checkpoint or the fp32 artifact it was made from")
        seven_bits = needs_seven_bits()
        graph = quantized_graph(source / GRAPH, Path(scratch) / "int8.onnx", seven_bits)
        write_artifact(graph, source, output)
        reference, candidate = OnnxModel(source, hints=RUNTIME_HINTS), OnnxModel(output, hints=RUNTIME_HINTS)
        data, texts = verification_data(inputs, source)
        found = verify(reference.logits, candidate.logits, data, candidate.target)
        announce(found, "the float graph")
        metrics = _accuracy(inputs, source, reference, candidate, settings) if inputs.task_or_none else {}
        shrunk = (output / GRAPH).stat().st_size / (source / GRAPH).stat().st_size
    quantized, left = quantized_share(graph)
    console.info(f"  {quantized} matrix products are int8, {left} stay float; the graph is {100 * shrunk:.1f} % of its float size")
    return {
        "precision": "int8",
        "method": settings.method,
        "weights": "int8 per channel, 7 bits" if seven_bits else "int8 per channel",
        "made_for": machine.cpu_flags(),
        "runtime": RUNTIME_HINTS,
        "verification": {**found.as_json(), "against": "the float graph", "texts": texts},
        "reading": recorded_reading(inputs).as_json(),
        "layers": shape_of_config(read_config(output)).as_json(),
        "params": (fs.read_manifest(inputs.source) or {}).get("params"),
        "size_mb": (output / GRAPH).stat().st_size / 1e6,
        "metrics": metrics,
    }


def _read_graph(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's errors share no base class with onnx's
        raise ModelError(f"{path} cannot be read: {(str(error).splitlines() or ['?'])[0]}") from error


def _exported(inputs: Inputs, scratch: Path) -> Path:
    """Export a checkpoint into a scratch folder, verified as `export` does it."""
    folder = scratch / "float"
    folder.mkdir()
    export_run(inputs, ExportSettings.model_validate({}), folder)
    return folder


def quantized_graph(source: Path, target: Path, seven_bits: bool) -> onnx.ModelProto:
    """Return a float graph's int8 form: dynamic int8 products (written to `target` on the way), embeddings int8 by row."""
    quantize_dynamic(source, target, seven_bits)
    graph = onnx.load(str(target))
    quantize_embeddings(graph)
    onnx.checker.check_model(graph)
    return graph


def _accuracy(inputs: Inputs, source: Path, reference: OnnxModel, candidate: OnnxModel, settings: QuantizeSettings) -> dict[str, Any]:
    """Measure both on validation.

    Raises:
        GateMissed: the drop exceeds `max_drop`.
    """
    task = inputs.task
    validation = task.split("validation")
    data = encode_for(source, validation, task.spec.reading)
    classes = connect(reference.config, task, str(inputs.source.name))
    main = task.spec.main_metric
    results = [
        measure(model.logits, data, validation, task, classes, f"validating {name}")
        for name, model in (("float", reference), ("int8", candidate))
    ]
    before, after = results
    drop = points_lost(before[main], after[main])
    console.info(f"  validation {main} {100 * after[main]:.2f}, float {100 * before[main]:.2f} (n = {len(validation)})")
    if settings.max_drop is not None and drop > settings.max_drop:
        raise GateMissed(
            f"int8 loses {drop:.2f} points of {main} on validation (n = {len(validation)}), more than --max-drop {settings.max_drop:g}",
            "allow more, or serve the float artifact",
        )
    return {"validation": {"n": len(validation), **after, "float": before[main], "drop_points": drop}}
