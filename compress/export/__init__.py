"""PyTorch to ONNX: the stage `export`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx

from compress.benchmark.tuning import Point
from compress.core import artifacts, machine
from compress.core.errors import ModelError, UsageError
from compress.data.encoded import Encoded
from compress.data.input_spec import Target
from compress.export.artifact import recorded_input_spec, served_forwards, verification_data, write_artifact
from compress.export.attention import ATTENTION_OPSET, GraphForm
from compress.export.canaries import write_canaries
from compress.export.graph import attends_by_parts, build_graph
from compress.export.layout import lay_out_artifact, move_graph
from compress.export.runtime_hints import RUNTIME_HINTS
from compress.export.tolerance import BF16_TOLERANCE, TOLERANCE, TRIED_EXAMPLES, difference, is_relative
from compress.export.tune import TunableGraphs, tune_graph
from compress.export.verify import announce_verification, cached_forward, subsample, verify, without_close_calls
from compress.inference.batches import Forward
from compress.inference.forward import torch_forward
from compress.inference.routes import ONNXRUNTIME, OPENVINO
from compress.models.checkpoint import load_model
from compress.models.config import max_tokens, read_config
from compress.models.embedder import is_embedder_model
from compress.models.family import STATIC
from compress.models.inputs import input_spec_of
from compress.models.layout import GRAPH, is_graph
from compress.models.model_shape import count_params, model_shape
from compress.models.token_reduction import reduces_tokens
from compress.models.types import TransformersModel
from compress.models.windows import LONG_TEXT
from compress.results import ExportDocument
from compress.results.graphs import VerificationDocument
from compress.settings import ExportSettings
from compress.stage import Inputs

__all__ = ["RUNTIME_HINTS", "run", "write_artifact"]


def run(inputs: Inputs, settings: ExportSettings, output: Path) -> ExportDocument:
    """Write the graph, its config and tokenizer, and verify it against PyTorch on real texts.

    With a layout, an artifact is written again in it.

    Raises:
        UsageError: settings that do not fit the model.
        ModelError: the logits differ by more than the tolerance; the message names the worst case.
        ResourceError: `runtime` is OpenVINO, which is not installed.
    """
    source = inputs.source
    if settings.layout != "compress" and is_graph(source):
        return lay_out_artifact(inputs, settings, output)
    model = load_model(source, target=inputs.target_or_none, pooling=inputs.pooling)
    data, texts = verification_data(inputs, source)
    if reduces_tokens(model):
        data = without_close_calls(data, torch_forward(model))
    reference = cached_forward(torch_forward(model))
    embedder = is_embedder_model(model)
    target = "vector" if embedder else input_spec_of(read_config(source), artifacts.read_manifest(source)).target
    openvino_floats = openvino_precision(settings)
    precisions = {ONNXRUNTIME: "fp32", OPENVINO: openvino_floats}
    tried = subsample(data, TRIED_EXAMPLES)

    def check(forward: Forward, runtime: str) -> str | None:
        return difference(verify(reference, forward, tried, target), precisions[runtime], settings.tolerance)

    longest = max_tokens(read_config(source))
    _check_token_vectors(settings, embedder, model.config.model_type == STATIC.model_type, reduces_tokens(model))
    input_spec = recorded_input_spec(inputs)
    graphs = tunable_graphs(model, settings, input_spec.max_length)
    tuned = tune_graph(graphs, settings, openvino_floats, check, model.config.vocab_size, longest)
    write_artifact(tuned.graph, source, output, inputs.pooling, input_spec)
    served = served_forwards(output, tuned.hints)
    verifications = _verify(served, reference, data, texts, target, precisions, settings.tolerance)
    verification = verifications[ONNXRUNTIME]
    write_canaries(output, served, reference, verification["largest"], "fp32", target)
    document: ExportDocument = {
        "precision": "fp32",
        "form": graph_form(tuned.point, settings).as_json(),
        "runtime": tuned.hints,
        "verification": verification,
        "input_spec": input_spec.as_json(),
        "params": count_params(model),
        "layers": model_shape(model).as_json(),
        "graph_inputs": [entry.name for entry in tuned.graph.graph.input],
        "graph_outputs": [entry.name for entry in tuned.graph.graph.output],
        "size_mb": (output / GRAPH).stat().st_size / 1e6,
        "metrics": {"max_abs_difference": verification["max_abs"], "argmax_agreement": verification["agreement"]},
    }
    if tuned.tuning:
        document["tuning"] = tuned.tuning
    if OPENVINO in verifications:
        document["verification_openvino"] = verifications[OPENVINO]
    if settings.layout != "compress":
        document["graph"] = move_graph(output, settings.layout, "fp32")
    return document


def _check_token_vectors(settings: ExportSettings, embedder: bool, is_static: bool, drops_tokens: bool) -> None:
    """Refuse a graph with the vectors of tokens of a model that has none, or not of all tokens.

    Raises:
        UsageError: no embedder, a static one, or one that drops tokens.
    """
    if drops_tokens and (settings.token_embeddings or settings.layout == "sentence-transformers"):
        raise UsageError("this embedder drops tokens, and has no vectors of them", "leave --token-embeddings and --layout out")
    if settings.token_embeddings and not embedder:
        raise UsageError("--token-embeddings is for embedders, and this model is another one", "leave it out")
    if embedder and is_static and (settings.token_embeddings or settings.layout == "sentence-transformers"):
        raise UsageError(
            "a static embedder has one state for a text, and no vectors of its tokens", "leave --token-embeddings and --layout out"
        )


def _verify(
    served: Mapping[str, Forward],
    reference: Forward,
    data: Encoded,
    texts: str,
    target: Target,
    precisions: Mapping[str, str],
    tolerance: float | None,
) -> dict[str, VerificationDocument]:
    """Compare an artifact with PyTorch in every runtime that serves it.

    Raises:
        ModelError: the logits differ by more than the tolerance.
    """
    documents: dict[str, VerificationDocument] = {}
    for runtime, forward in served.items():
        precision = precisions[runtime]
        verification = verify(reference, forward, data, target)
        wrong = difference(verification, precision, tolerance)
        if wrong is not None:
            raise ModelError(
                f"the exported graph {'in OpenVINO ' if runtime == OPENVINO else ''}{wrong}",
                "if the model's logits are very large, allow more with --tolerance; otherwise this is a bug of ours: please report it",
            )
        announce_verification(verification, "PyTorch" if runtime == ONNXRUNTIME else "PyTorch, in OpenVINO", target)
        document = VerificationDocument(**verification.as_json(), against="PyTorch", texts=texts, tolerance=TOLERANCE)
        if tolerance is not None:
            document["tolerance"] = tolerance
        elif is_relative(precision, tolerance):
            document["tolerance"], document["tolerance_of"] = BF16_TOLERANCE, "the largest logit"
        documents[runtime] = document
    return documents


def openvino_precision(settings: ExportSettings) -> str:
    """Return the precision in which OpenVINO computes an fp32 graph: bf16 on processors with AMX, unless fp32 was chosen."""
    return "bf16" if settings.precision == "auto" and machine.has_fast_bf16() else "fp32"


def tunable_graphs(model: TransformersModel, settings: ExportSettings, served: int) -> TunableGraphs:
    """Return the forms of a model's graph that the settings leave open, the default one first.

    Args:
        model: to export.
        settings: of the graph.
        served: the most tokens of a text. Of `LONG_TEXT` and more, attention is computed in parts: other forms need memory for the square.

    Raises:
        UsageError: `attention` is given, and the model has none.
    """
    attention: list[str] = [settings.attention]
    if settings.attention == "auto":
        # OpenVINO reads standard operators only.
        fused = ["mha"] if settings.runtime == ONNXRUNTIME else []
        attention = ["plain", *fused, *(["onnx"] if settings.opset >= ATTENTION_OPSET else [])]
        if served >= LONG_TEXT and attends_by_parts(model):
            attention = ["blocks"]
    axes = {"attention": attention, "qkv": ["separate", "packed"], "scale": ["folded", "scores"]}
    if sizes := model_shape(model).without_layers:
        if settings.attention != "auto":
            raise UsageError(f"a {sizes.title} has no attention", "leave out --attention")
        axes = {axis: values[:1] for axis, values in axes.items()}

    def build(point: Point) -> onnx.ModelProto:
        return build_graph(model, graph_form(point, settings))

    return TunableGraphs(axes, build)


def graph_form(point: Point, settings: ExportSettings) -> GraphForm:
    """Return the form that a point of the search stands for."""
    tokens = settings.token_embeddings or settings.layout == "sentence-transformers"
    return GraphForm(point["attention"], point["qkv"], point["scale"], settings.opset, tokens)  # pyright: ignore[reportArgumentType]
