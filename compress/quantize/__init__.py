"""Post-training quantization: the stage `quantize`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compress.core import artifacts, console, machine
from compress.core.errors import ModelError
from compress.core.scratch import folder as scratch_folder
from compress.data.encoded import Encoded
from compress.data.input_spec import InputSpec
from compress.export.artifact import recorded_input_spec, served_forwards, verification_data, write_artifact
from compress.export.canaries import write_canaries
from compress.export.runtime_hints import RUNTIME_HINTS
from compress.export.tune import TunedGraph
from compress.export.verify import announce_verification, verify
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward
from compress.inference.processor import with_exact_products
from compress.inference.routes import ONNXRUNTIME, OPENVINO
from compress.models.config import read_config
from compress.models.int8_ranges import recorded_ranges
from compress.models.layout import OPENVINO_GRAPH, graph_file
from compress.models.shape import shape_of_config
from compress.quantize.accuracy_gate import AccuracyGate
from compress.quantize.calibration_texts import encode_calibration_texts
from compress.quantize.dynamic import count_quantized
from compress.quantize.error_report import matmul_errors
from compress.quantize.fp16 import check_fp16_range
from compress.quantize.instruction_sets import HardwareTarget, hardware_target
from compress.quantize.int4 import BLOCK
from compress.quantize.method_search import MethodChoice, search_method
from compress.quantize.methods import resolve_method
from compress.quantize.openvino import save_sharing_weights
from compress.quantize.serving import fixed_serving, tuned_serving
from compress.quantize.source import float_artifact
from compress.quantize.variants import CALIBRATED, HALF_PRECISION, GraphVariants, dynamic_int8_graph
from compress.results import QuantizeDocument
from compress.results.graphs import RuntimeHints, VerificationDocument
from compress.results.values import Metrics
from compress.settings import QuantizeSettings
from compress.stage import Inputs

__all__ = ["dynamic_int8_graph", "run"]
WEIGHTS = {"int4": f"int4 in blocks of {BLOCK}", "fp16": "float16", "bf16": "bfloat16"}
AGAINST = "the float graph"


def run(inputs: Inputs, settings: QuantizeSettings, output: Path) -> QuantizeDocument:
    """Quantize a checkpoint or an ONNX artifact, compare it with its float graph, and hold it to `max_drop`.

    Raises:
        UsageError: `max_drop` without a task; a method that lacks texts to calibrate on, or that the target does not support.
        ModelError: the source is quantized already or has weights that are not finite, or the logits are not finite.
        GateMissed: validation lost more than `max_drop` points.
        ResourceError: `runtime` is OpenVINO, which is not installed.
    """
    method = resolve_method(inputs, settings)
    target = hardware_target(settings.target)
    with scratch_folder() as scratch:
        source = float_artifact(inputs, scratch)
        data, texts = verification_data(inputs, source)
        reference = OnnxModel(source, hints=RUNTIME_HINTS)
        variants, calibration = _variants(inputs, settings, method, target, reference, data)
        gate = AccuracyGate(inputs, source, reference, settings.max_drop) if inputs.task_or_none else None
        choice = _choose_method(method, variants, gate, reference, data)
        precision = choice.method if choice.method in WEIGHTS else "int8"
        tunable = precision == "int8" and not target.gpu
        tuned = tuned_serving(choice, variants, settings, reference, data, target.here) if tunable else fixed_serving(choice, target.gpu)
        method = tuned.point["method"]
        input_spec = recorded_input_spec(inputs)
        _write(tuned, source, output, input_spec)
        served = served_forwards(output, _exact_hints(tuned.hints, target))
        verifications = _verify(served, reference, data, texts, precision)
        write_canaries(output, served, reference.logits, verifications[ONNXRUNTIME]["largest"], precision, reference.target)
        metrics = _check_accuracy(served, gate, precision)
        errors = (
            matmul_errors(variants, method, choice.passing[method], data if calibration is None else calibration)
            if settings.report
            else None
        )
        size = sum(path.stat().st_size for path in output.glob("*.onnx"))
        _announce(tuned, precision, size / graph_file(source).stat().st_size)
        document: QuantizeDocument = {
            "precision": precision,
            "method": method,
            "weights": WEIGHTS.get(method, target.weights),
            "target": {"name": target.name, "here": target.here},
            "instruction_sets": target.instruction_sets,
            "calibration": variants.calibration_document(method),
            "candidates": choice.candidates,
            "float_groups": choice.float_groups,
            "runtime": tuned.hints,
            "verification": verifications[ONNXRUNTIME],
            "input_spec": input_spec.as_json(),
            "layers": shape_of_config(read_config(output)).as_json(),
            "params": (artifacts.read_manifest(inputs.source) or {}).get("params"),
            "graph_inputs": [entry.name for entry in tuned.graph.graph.input],
            "graph_outputs": [entry.name for entry in tuned.graph.graph.output],
            "size_mb": size / 1e6,
            "metrics": metrics,
        }
    if tuned.tuning:
        document["tuning"] = tuned.tuning
    if OPENVINO in verifications:
        document["verification_openvino"] = verifications[OPENVINO]
    if errors is not None:
        document["explain"] = errors
    return document


def _choose_method(method: str, variants: GraphVariants, gate: AccuracyGate | None, reference: OnnxModel, data: Encoded) -> MethodChoice:
    """Return the graph of the method, or for `auto` the fastest within the accuracy budget.

    A static model's matmuls stay float: in int8 its hidden layer loses 1.8 points (docs/results/distillation.md), and almost all of its
    weights are in the tables.
    """
    if method == "fp16":
        check_fp16_range(variants.model, data)
    if method == "auto" and gate is not None:
        return search_method(variants, gate.points_lost, gate.limit, reference.logits, reference.config["vocab_size"])
    static = shape_of_config(reference.config).static is not None
    return MethodChoice(method, variants.graph(method, variants.groups if static else ()))


def _announce_trained(target: HardwareTarget, count: int) -> None:
    """Print that static int8 has the ranges that the model was trained with, and warn of a target whose rounding is another one."""
    console.info(f"  static int8 has the ranges of {count} matmuls that the model was trained with: nothing is calibrated")
    if target.symmetric or target.seven_bits:
        other = "symmetric ranges around them" if target.symmetric else "7-bit weights"
        console.warn(f"the model was trained for 8-bit weights and unsigned activations, and {target.name} has {other}: check its accuracy")


def _variants(
    inputs: Inputs, settings: QuantizeSettings, method: str, target: HardwareTarget, reference: OnnxModel, data: Encoded
) -> tuple[GraphVariants, Encoded | None]:
    """Return the variants of a float artifact, and the texts that they are calibrated on or, with trained ranges, verified on."""
    source = reference.folder
    if method in ("auto", "static") and (trained := recorded_ranges(read_config(source))):
        _announce_trained(target, len(trained))
        return GraphVariants(graph_file(source), settings, target, data, trained), data  # errors are measured on it
    calibration = encode_calibration_texts(inputs, settings, source) if method in ("auto", *CALIBRATED) else None
    return GraphVariants(graph_file(source), settings, target, calibration, observed=_observed(reference, data, calibration)), calibration


def _observed(reference: OnnxModel, data: Encoded, calibration: Encoded | None) -> Encoded | None:
    """Return the texts in which outlier channels are found: those of calibration, or else of verification; None for no embedder."""
    has_layers = shape_of_config(reference.config).without_layers is None
    return (calibration or data) if reference.target == "vector" and has_layers else None


def _write(tuned: TunedGraph, source: Path, output: Path, input_spec: InputSpec) -> None:
    """Write the artifact, with a second graph for OpenVINO if there is one."""
    write_artifact(tuned.graph, source, output, input_spec=input_spec)
    if tuned.openvino_graph is not None:
        save_sharing_weights(tuned.openvino_graph, output / OPENVINO_GRAPH)


def _exact_hints(hints: RuntimeHints, target: HardwareTarget) -> RuntimeHints:
    """Return the hints with which this processor computes the numbers of the target."""
    return hints if target.seven_bits or machine.wide_dot_products() else with_exact_products(hints)


def _verify(
    served: Mapping[str, Forward], reference: OnnxModel, data: Encoded, texts: str, precision: str
) -> dict[str, VerificationDocument]:
    """Compare the artifact with the float graph in every runtime that serves it.

    Raises:
        ModelError: its logits are not finite.
    """
    documents: dict[str, VerificationDocument] = {}
    for runtime, forward in served.items():
        verification = verify(reference.logits, forward, data, reference.target)
        if not verification.is_finite:
            raise ModelError(
                f"the logits of the {precision} graph are not finite on '{verification.worst_case}'",
                "use another --method, and please report it",
            )
        announce_verification(verification, f"{AGAINST}, in OpenVINO" if runtime == OPENVINO else AGAINST, reference.target)
        documents[runtime] = {**verification.as_json(), "against": AGAINST, "texts": texts}
    return documents


def _check_accuracy(served: Mapping[str, Forward], gate: AccuracyGate | None, precision: str) -> dict[str, Metrics]:
    """Score the artifact on validation in every runtime that serves it; without a task there is nothing to score.

    Raises:
        GateMissed: it loses more than `max_drop` points.
    """
    if gate is None:
        return {}
    names = {ONNXRUNTIME: "validation", OPENVINO: "validation_openvino"}
    return {names[runtime]: gate.check(forward, precision) for runtime, forward in served.items()}


def _announce(tuned: TunedGraph, precision: str, share: float) -> None:
    """Print how much of the graph is quantized, and its size."""
    size = f"the graph is {100 * share:.1f} % of its float size"
    if precision in HALF_PRECISION:
        console.info(f"  {WEIGHTS[precision]}: {size}")
        return
    quantized, floats = count_quantized(tuned.graph)
    console.info(f"  {quantized} matmuls are {precision}, {floats} stay float; {size}")
