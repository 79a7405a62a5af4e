"""Post-training quantization: the stage `quantize`."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from compress import console, fs, machine
from compress.errors import ModelError, UsageError
from compress.export import RUNTIME_HINTS, announce, recorded_reading, verification_data, write_artifact
from compress.export import run as export_run
from compress.export.verify import verify
from compress.model.artifact import OnnxModel
from compress.model.config import GRAPH, is_graph, read_config
from compress.model.runtime import ONNXRUNTIME, OPENVINO, OPENVINO_GRAPH, recorded_runtimes
from compress.model.shape import shape_of_config
from compress.quantize.auto import Choice, choose
from compress.quantize.data import Judge, calibration_data
from compress.quantize.dynamic import quantized_share
from compress.quantize.explain import explain
from compress.quantize.forms import Forms, quantized_graph
from compress.quantize.serving import choose_run
from compress.quantize.targets import NEEDED, find_target
from compress.settings import ExportSettings, QuantizeSettings
from compress.stage import Inputs

__all__ = ["quantized_graph", "run"]


def run(inputs: Inputs, settings: QuantizeSettings, output: Path) -> dict[str, Any]:
    """Quantize a checkpoint or an ONNX artifact, compare it with its float form, and hold it to `max_drop`.

    Raises:
        UsageError: `max_drop` without a task; a method that calibrates without texts.
        ModelError: the source is quantized already.
        GateMissed: validation lost more than `max_drop` points.
        ResourceError: OpenVINO was asked for and is not installed.
    """
    method = _method(inputs, settings)
    target = find_target(settings.target)
    with tempfile.TemporaryDirectory() as scratch:
        source = inputs.source if is_graph(inputs.source) else _exported(inputs, Path(scratch))
        float_graph = _read_graph(source / GRAPH)
        if quantized_share(float_graph)[0]:
            raise ModelError(f"{inputs.source} is quantized already", "give the checkpoint or the fp32 artifact it was made from")
        if any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in float_graph.graph.initializer):
            raise ModelError(f"{inputs.source} is a float16 graph", "give the checkpoint or the fp32 artifact it was made from")
        data, texts = verification_data(inputs, source)
        calibration = None if method == "dynamic" else calibration_data(inputs, settings, source)
        forms = Forms(source / GRAPH, settings, target, calibration, Path(scratch))
        reference = OnnxModel(source, hints=RUNTIME_HINTS)
        judge = Judge(inputs, source, reference) if inputs.task_or_none else None
        if method == "auto" and judge is not None:
            choice = choose(forms, judge.drop, reference.logits, read_config(source)["vocab_size"])
        else:
            choice = Choice(method, forms.graph(method))
        chosen = choose_run(choice, settings, reference, data, target.here)
        choice = replace(choice, method=chosen.point["method"], graph=chosen.graph)
        write_artifact(chosen.graph, source, output)
        if chosen.openvino_graph is not None:
            onnx.save(chosen.openvino_graph, str(output / OPENVINO_GRAPH))
        candidate = OnnxModel(output, hints=chosen.hints)
        metrics: dict[str, Any] = {}
        verification: dict[str, Any] = {}
        for runtime in dict.fromkeys([ONNXRUNTIME, *recorded_runtimes(chosen.hints)]):
            suffix = "_openvino" if runtime == OPENVINO else ""
            found = verify(reference.logits, candidate.opened(runtime), data, candidate.target)
            announce(found, f"the float graph{', in OpenVINO' if runtime == OPENVINO else ''}")
            verification[f"verification{suffix}"] = {**found.as_json(), "against": "the float graph", "texts": texts}
            if judge is not None:
                metrics[f"validation{suffix}"] = judge.check(candidate.opened(runtime), settings.max_drop)
        explained = explain(forms, choice.method, choice.graph, data if calibration is None else calibration) if settings.report else None
        shrunk = (output / GRAPH).stat().st_size / (source / GRAPH).stat().st_size
        described = forms.described(choice.method)
    quantized, left = quantized_share(choice.graph)
    console.info(f"  {quantized} matrix products are int8, {left} stay float; the graph is {100 * shrunk:.1f} % of its float size")
    return {
        "precision": "int8",
        "method": choice.method,
        "weights": target.weights,
        "target": {"name": target.name, "here": target.here},
        "made_for": machine.cpu_flags() if target.name == "auto" else sorted(NEEDED[target.name]),
        "calibration": described,
        "candidates": choice.candidates,
        "float_groups": choice.float_groups,
        "runtime": chosen.hints,
        **({"tuning": chosen.tuning} if chosen.tuning else {}),
        **verification,
        "reading": recorded_reading(inputs).as_json(),
        "layers": shape_of_config(read_config(output)).as_json(),
        "params": (fs.read_manifest(inputs.source) or {}).get("params"),
        "size_mb": (output / GRAPH).stat().st_size / 1e6,
        "metrics": metrics,
        **({} if explained is None else {"explain": explained}),
    }


def _method(inputs: Inputs, settings: QuantizeSettings) -> str:
    """Return the method, `auto` resolved to `dynamic` where there is nothing to measure or to calibrate on.

    Raises:
        UsageError: texts or a gate that the method has no use for, or that are missing.
    """
    task = inputs.task_or_none
    if settings.max_drop is not None and task is None:
        raise UsageError("--max-drop needs data to measure the drop on", "give --task T, or --validation, --text and --label")
    texts = settings.unlabeled or (task is not None and "train" in task.available)
    if settings.method in ("static", "smooth") and not texts:
        raise UsageError(
            f"--method {settings.method} needs texts to calibrate on", "give --task T with a training split, or --unlabeled FILE"
        )
    if settings.method != "auto":
        return settings.method
    if settings.unlabeled and task is None:
        raise UsageError("--method auto needs a task to choose by, not texts alone", "give --task T as well, or --method static")
    return "auto" if texts else "dynamic"


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
