"""Post-training quantization: the stage `quantize`."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from compress.core import artifacts, console
from compress.core.errors import ModelError, UsageError
from compress.export import RUNTIME_HINTS, announce, recorded_input_spec, verification_data, write_artifact
from compress.export import run as export_run
from compress.export.tune import GPU_HINTS, TunedGraph
from compress.export.verify import verify
from compress.inference.artifact import OnnxModel
from compress.inference.onnx_session import refuse_linked_weights
from compress.inference.openvino_session import has_openvino
from compress.inference.routes import ONNXRUNTIME, OPENVINO, recorded_runtimes, single_route
from compress.models.config import read_config
from compress.models.family import family_of
from compress.models.layout import GRAPH, OPENVINO_GRAPH, is_graph
from compress.models.shape import shape_of_config
from compress.quantize.auto import Choice, choose
from compress.quantize.dynamic import quantized_share
from compress.quantize.error_report import explain
from compress.quantize.fp16 import check_range
from compress.quantize.gate_data import AccuracyGate, calibration_data
from compress.quantize.instruction_sets import GPUS, hardware_target
from compress.quantize.int4 import BLOCK
from compress.quantize.openvino import save_sharing_weights
from compress.quantize.serving import choose_serving
from compress.quantize.variants import CALIBRATED, HALVES, GraphVariants, quantized_graph
from compress.results import QuantizeDocument
from compress.settings import ExportSettings, QuantizeSettings
from compress.stage import Inputs

__all__ = ["quantized_graph", "run"]
LARGEST = float(np.finfo(np.float32).max)  # as far as `verify` counts an infinite difference
WEIGHTS = {"int4": f"int4 in blocks of {BLOCK}", "fp16": "float16", "bf16": "bfloat16"}


def run(inputs: Inputs, settings: QuantizeSettings, output: Path) -> QuantizeDocument:
    """Make a smaller form of a checkpoint or an ONNX artifact, compare it with its float form, and hold it to `max_drop`.

    Raises:
        UsageError: `max_drop` without a task; a method that calibrates without texts; one that the target does not run.
        ModelError: the source is quantized already, has weights that are no numbers, or the form's logits are none.
        GateMissed: validation lost more than `max_drop` points.
        ResourceError: OpenVINO was asked for and is not installed.
    """
    method = _method(inputs, settings)
    target = hardware_target(settings.target)
    with tempfile.TemporaryDirectory() as scratch:
        source = inputs.source if is_graph(inputs.source) else _exported(inputs, Path(scratch))
        _check_source(_read_graph(source / GRAPH), inputs.source)
        data, texts = verification_data(inputs, source)
        calibration = calibration_data(inputs, settings, source) if method in ("auto", *CALIBRATED) else None
        forms = GraphVariants(source / GRAPH, settings, target, calibration)
        if method == "fp16":
            check_range(forms.model, data)
        reference = OnnxModel(source, hints=RUNTIME_HINTS)
        judge = AccuracyGate(inputs, source, reference) if inputs.task_or_none else None
        if method == "auto" and judge is not None:
            choice = choose(forms, judge.drop, reference.logits, read_config(source)["vocab_size"])
        else:
            choice = Choice(method, forms.graph(method))
        precision = choice.method if choice.method in WEIGHTS else "int8"
        if precision == "int8" and not target.gpu:
            chosen = choose_serving(choice, settings, reference, data, target.here)
        else:
            chosen = TunedGraph(choice.graph, None, {"method": choice.method}, _hints(precision, target.gpu), None)
        choice = replace(choice, method=chosen.point["method"], graph=chosen.graph)
        write_artifact(chosen.graph, source, output)
        if chosen.openvino_graph is not None:
            save_sharing_weights(chosen.openvino_graph, output / OPENVINO_GRAPH)
        candidate = OnnxModel(output, hints=chosen.hints)
        metrics: dict[str, Any] = {}
        verification: dict[str, Any] = {}
        for runtime in dict.fromkeys([ONNXRUNTIME, *recorded_runtimes(chosen.hints)]):
            suffix = "_openvino" if runtime == OPENVINO else ""
            found = verify(reference.logits, candidate.open_runtime(runtime), data, reference.target)
            if not found.max_abs < LARGEST:
                raise ModelError(
                    f"the {precision} graph answers with what is no number on '{found.worst_case}'",
                    "use another --method, and please report it",
                )
            announce(found, f"the float graph{', in OpenVINO' if runtime == OPENVINO else ''}")
            verification[f"verification{suffix}"] = {**found.as_json(), "against": "the float graph", "texts": texts}
            if judge is not None:
                metrics[f"validation{suffix}"] = judge.check(candidate.open_runtime(runtime), settings.max_drop, precision)
        explained = explain(forms, choice.method, choice.graph, data if calibration is None else calibration) if settings.report else None
        size = sum(path.stat().st_size for path in output.glob("*.onnx"))
        shrunk = size / (source / GRAPH).stat().st_size
        described = forms.described(choice.method)
    _tell(choice, precision, shrunk)
    return {
        "precision": precision,
        "method": choice.method,
        "weights": WEIGHTS.get(choice.method, target.weights),
        "target": {"name": target.name, "here": target.here},
        "made_for": target.made_for,
        "calibration": described,
        "candidates": choice.candidates,
        "float_groups": choice.float_groups,
        "runtime": chosen.hints,
        **({"tuning": chosen.tuning} if chosen.tuning else {}),
        **verification,
        "input_spec": recorded_input_spec(inputs).as_json(),
        "layers": shape_of_config(read_config(output)).as_json(),
        "params": (artifacts.read_manifest(inputs.source) or {}).get("params"),
        "graph_inputs": [entry.name for entry in choice.graph.graph.input],
        "size_mb": size / 1e6,
        "metrics": metrics,
        **({} if explained is None else {"explain": explained}),
    }


def _hints(precision: str, gpu: bool) -> dict[str, Any]:
    """Return what a form that is not chosen by time records of how it is run."""
    if precision == "fp16":
        return GPU_HINTS
    if gpu:
        return {}  # the others are for CPUs
    if precision != "bf16":
        return RUNTIME_HINTS
    if has_openvino():
        return RUNTIME_HINTS | {"openvino": {"precision": "bf16"}, "routes": single_route(OPENVINO)}
    console.warn("OpenVINO is not installed: bf16 is checked with weights rounded, but not what is computed")
    return RUNTIME_HINTS


def _tell(choice: Choice, precision: str, shrunk: float) -> None:
    share = f"the graph is {100 * shrunk:.1f} % of its float size"
    if precision in HALVES:
        console.info(f"  {WEIGHTS[precision]}: {share}")
        return
    quantized, left = quantized_share(choice.graph)
    console.info(f"  {quantized} matrix matmuls are {precision}, {left} stay float; {share}")


def _method(inputs: Inputs, settings: QuantizeSettings) -> str:
    """Return the method, `auto` resolved to `dynamic` where there is nothing to measure or to calibrate on.

    Raises:
        UsageError: texts or a gate that the method has no use for, or that are missing; a method without a form for the model.
    """
    task = inputs.task_or_none
    if settings.max_drop is not None and task is None:
        raise UsageError("--max-drop needs data to measure the drop on", "give --task T, or --validation, --text and --label")
    texts = settings.unlabeled or (task is not None and "train" in task.available)
    gpu = settings.target in GPUS
    if gpu and settings.method == "dynamic":
        raise UsageError(f"--target {settings.target} runs no dynamic int8", "use --method static, or --method fp16")
    if settings.target == "cuda" and settings.method == "auto":
        console.info("  auto, for cuda: fp16 (ONNX Runtime's CUDA kernels compute int8 matmuls in float)")
        return "fp16"
    if family_of(read_config(inputs.source)["model_type"]).recurrent:
        return _of_lstm(settings)
    if (settings.method in CALIBRATED or (gpu and settings.method == "auto")) and not texts:
        raise UsageError(
            f"--method {settings.method} needs texts to calibrate on", "give --task T with a training split, or --unlabeled FILE"
        )
    if settings.method != "auto":
        return settings.method
    if settings.unlabeled and task is None:
        raise UsageError("--method auto needs a task to choose by, not texts alone", "give --task T as well, or --method static")
    return "auto" if texts else "dynamic"


def _of_lstm(settings: QuantizeSettings) -> str:
    """Return the method for a BiLSTM: of whole numbers dynamic int8 alone, for which ONNX Runtime has an operator on CPUs.

    Raises:
        UsageError: another one, or another place to run it.
    """
    method = "dynamic" if settings.method == "auto" else settings.method
    elsewhere = settings.target in GPUS or settings.runtime == OPENVINO
    if method in HALVES or (method == "dynamic" and not elsewhere):
        return method
    raise UsageError(
        "of whole numbers a BiLSTM has dynamic int8 alone, which ONNX Runtime computes on CPUs", "use --method dynamic; or fp16, bf16"
    )


def _read_graph(path: Path) -> onnx.ModelProto:
    """Read a graph with its weights.

    Raises:
        ModelError: damaged, or with weights outside its folder.
    """
    refuse_linked_weights(path)
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's errors share no base class with onnx's
        raise ModelError(f"{path} cannot be read: {(str(error).splitlines() or ['?'])[0]}") from error


def _check_source(graph: onnx.ModelProto, source: Path) -> None:
    """Check that a graph is a float one, of numbers.

    Raises:
        ModelError: it is quantized or in half precision already, or some of its weights are not finite.
    """
    kinds = {tensor.data_type for tensor in graph.graph.initializer}
    if quantized_share(graph)[0] or kinds & {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}:
        raise ModelError(f"{source} is quantized already", "give the checkpoint or the fp32 artifact it was made from")
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise ModelError(f"{source}: the weights '{tensor.name}' are not finite", "the training that made them diverged")


def _exported(inputs: Inputs, scratch: Path) -> Path:
    """Export a checkpoint into a scratch folder, verified as `export` does it."""
    folder = scratch / "float"
    folder.mkdir()
    export_run(inputs, ExportSettings.model_validate({}), folder)
    return folder
