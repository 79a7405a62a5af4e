"""PyTorch to ONNX: the stage `export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from compress.benchmark.tuning import Point
from compress.core import artifacts, console, disk, machine
from compress.core.errors import ModelError, UsageError
from compress.data.encoded import Encoded
from compress.data.input_spec import InputSpec
from compress.data.sample_texts import sample_examples
from compress.export.attention import ATTENTION_OPSET, GraphForm
from compress.export.graph import build_graph
from compress.export.tune import RUNTIME_HINTS, TunableGraphs, choose
from compress.export.verify import Verification, cached_forward, verify
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward
from compress.inference.forward import torch_forward
from compress.inference.routes import ONNXRUNTIME, OPENVINO, recorded_runtimes
from compress.models.checkpoint import load_model
from compress.models.config import max_tokens, read_config
from compress.models.inputs import encode_for, input_spec_of
from compress.models.layout import GRAPH
from compress.models.model_shape import count_params, model_shape
from compress.models.tokenizer import save_tokenizer
from compress.results import ExportDocument
from compress.settings import ExportSettings
from compress.stage import Inputs

__all__ = ["RUNTIME_HINTS", "announce", "recorded_input_spec", "run", "verification_data", "write_artifact"]

VERIFIED_EXAMPLES = 256
TRIED_EXAMPLES = 12  # on which each form is verified before it is timed; the one that is kept is verified on all
SAMPLES = InputSpec(max_length=512)  # texts alone, whatever the model answers: what is compared are logits
TOLERANCE = 1e-3
SHARES = {"bf16": 0.05}  # of the largest logit


def run(inputs: Inputs, settings: ExportSettings, output: Path) -> ExportDocument:
    """Write the graph, its config and tokenizer; verify it against PyTorch on real texts.

    Raises:
        ModelError: the graph's logits differ by more than the tolerance; the message names the worst case.
        ResourceError: OpenVINO was asked for and is not installed.
    """
    source = inputs.source
    model = load_model(source)
    data, texts = verification_data(inputs, source)
    reference, target = cached_forward(torch_forward(model)), input_spec_of(read_config(source), artifacts.read_manifest(source)).target
    floats = openvino_precision(settings)
    tried = data.take(np.linspace(0, len(data) - 1, min(TRIED_EXAMPLES, len(data))).astype(int))

    def check(forward: Forward, runtime: str) -> str | None:
        return difference(verify(reference, forward, tried, target), floats if runtime == OPENVINO else "fp32", settings.tolerance)

    chosen = choose(graphs_of(model, settings), settings, floats, check, model.config.vocab_size, max_tokens(read_config(source)))
    graph, hints = chosen.graph, chosen.hints
    write_artifact(graph, source, output)
    artifact = OnnxModel(output, hints=hints)
    verification: dict[str, Any] = {}
    for runtime in dict.fromkeys([ONNXRUNTIME, *recorded_runtimes(hints)]):
        precision = floats if runtime == OPENVINO else "fp32"
        found = verify(reference, artifact.open_runtime(runtime), data, target)
        _hold(found, runtime, precision, settings.tolerance)
        announce(found, "PyTorch" if runtime == ONNXRUNTIME else "PyTorch, in OpenVINO")
        verification[runtime] = {**found.as_json(), "against": "PyTorch", "texts": texts, **allowed(precision, settings.tolerance)}
    own = verification[ONNXRUNTIME]
    return {
        "precision": "fp32",
        "form": form_of(chosen.point, settings).as_json(),
        "runtime": hints,
        **({"tuning": chosen.tuning} if chosen.tuning else {}),
        "verification": own,
        **({"verification_openvino": verification[OPENVINO]} if OPENVINO in verification else {}),
        "input_spec": recorded_input_spec(inputs).as_json(),
        "params": count_params(model),
        "layers": model_shape(model).as_json(),
        "graph_inputs": [entry.name for entry in graph.graph.input],
        "size_mb": (output / GRAPH).stat().st_size / 1e6,
        "metrics": {"max_abs_difference": own["max_abs"], "argmax_agreement": own["agreement"]},
    }


def openvino_precision(settings: ExportSettings) -> str:
    """Return the precision in which OpenVINO computes an fp32 graph: bf16 on processors with AMX, unless fp32 was chosen."""
    return "bf16" if settings.precision == "auto" and machine.has_fast_bf16() else "fp32"


def graphs_of(model: Any, settings: ExportSettings) -> TunableGraphs:
    """Return the forms of a model's graph that the settings leave open, the usual one first.

    Raises:
        UsageError: a form of attention was asked for, and the model is a BiLSTM.
    """
    forms: list[str] = [settings.attention]
    if settings.attention == "auto":
        # OpenVINO reads standard operators.
        own = ["mha"] if settings.runtime == ONNXRUNTIME else []
        forms = ["plain", *own, *(["onnx"] if settings.opset >= ATTENTION_OPSET else [])]
    axes = {"attention": forms, "qkv": ["separate", "packed"], "scale": ["folded", "scores"]}
    if model_shape(model).lstm is not None:
        if settings.attention != "auto":
            raise UsageError("a BiLSTM has no attention whose form could be chosen", "leave out --attention")
        axes = {axis: values[:1] for axis, values in axes.items()}
    return TunableGraphs(axes, lambda point: build_graph(model, form_of(point, settings)))


def form_of(point: Point, settings: ExportSettings) -> GraphForm:
    """Return the form that a point of the search stands for."""
    return GraphForm(point["attention"], point["qkv"], point["scale"], settings.opset)  # pyright: ignore[reportArgumentType]


def allowed(precision: str, tolerance: float | None) -> dict[str, Any]:
    """Return the tolerance: absolute, or where nothing is given and floats are short as a share of the largest logit."""
    if tolerance is None and precision in SHARES:
        return {"tolerance": SHARES[precision], "tolerance_of": "the largest logit"}
    return {"tolerance": TOLERANCE if tolerance is None else tolerance}


def difference(found: Verification, precision: str, tolerance: float | None) -> str | None:
    """Return what is wrong, or None where all logits are within the tolerance."""
    limits = allowed(precision, tolerance)
    limit = limits["tolerance"] * (found.largest if "tolerance_of" in limits else 1.0)
    if found.max_abs <= limit:
        return None
    return f"differs from PyTorch by {found.max_abs:.2e} on '{found.worst_case}', more than {limit:g}"


def _hold(found: Verification, runtime: str, precision: str, tolerance: float | None) -> None:
    """Refuse a graph whose logits differ by more than the tolerance."""
    wrong = difference(found, precision, tolerance)
    if wrong is not None:
        raise ModelError(
            f"the exported graph {'in OpenVINO ' if runtime == OPENVINO else ''}{wrong}",
            "if the model's logits are very large, allow more with --tolerance; otherwise this is a bug of ours: please report it",
        )


def write_artifact(graph: onnx.ModelProto, source: Path, output: Path) -> None:
    """Write `model.onnx`, `config.json` and the tokenizer of `source` into `output`."""
    disk.check_space(output, graph.ByteSize())
    onnx.save(graph, str(output / GRAPH))
    (output / "config.json").write_bytes((source / "config.json").read_bytes())
    save_tokenizer(source, output)


def verification_data(inputs: Inputs, source: Path) -> tuple[Encoded, str]:
    """Return the encoded texts to verify on, and where they are from: the task's validation split, else samples."""
    if inputs.task_or_none is None:
        return encode_for(source, sample_examples(), SAMPLES), "built-in samples"
    task = inputs.task
    split = "validation" if "validation" in task.available else task.available[0]
    examples = task.split(split)
    positions = np.linspace(0, len(examples) - 1, min(VERIFIED_EXAMPLES, len(examples))).astype(int)
    return encode_for(source, examples.take(positions), task.spec.input_spec), f"{task.spec.name}, {split}"


def recorded_input_spec(inputs: Inputs) -> InputSpec:
    """Return how inputs are to be cut and outputs read: as the task says, or the task that the source was made for."""
    config = read_config(inputs.source)
    if inputs.task_or_none is None:
        return input_spec_of(config, artifacts.read_manifest(inputs.source))
    input_spec = inputs.task_or_none.spec.input_spec
    return replace(input_spec, max_length=min(input_spec.max_length, max_tokens(config)))


def announce(found: Verification, against: str) -> None:
    """Tell the user how far two models agree."""
    console.info(
        f"  against {against}: logits differ by at most {found.max_abs:.1e}, answers agree on {100 * found.agreement:.1f} % "
        f"of {found.examples} examples in {len(found.cases)} batch shapes"
    )
