"""Artifacts for other clients: the graph where they look for it.

sentence-transformers, text-embeddings-inference and transformers.js look into `onnx/`. transformers.js chooses a file by its `dtype`; the
others open `model.onnx`, whatever its precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import onnx

from compress.core import artifacts
from compress.core.errors import ModelError, UsageError
from compress.export.artifact import recorded_input_spec, served_forwards, verification_data, write_artifact
from compress.export.runtime_hints import RUNTIME_HINTS
from compress.export.verify import announce_verification, verify
from compress.inference.artifact import OnnxModel
from compress.inference.onnx_session import STATES, VECTOR, refuse_linked_weights
from compress.inference.routes import ONNXRUNTIME
from compress.models.layout import BY_PRECISION, CANARIES, GRAPH, GRAPH_FOLDER, graph_file
from compress.results import ExportDocument
from compress.results.graphs import RuntimeHints
from compress.settings import ExportSettings
from compress.stage import Inputs

KEPT = ("precision", "weights", "method", "target", "instruction_sets", "form", "params", "layers")  # of the manifest of an artifact
OTHER_RUNTIME = ("routes", "openvino")  # hints of a runtime that these clients do not use


def lay_out_artifact(inputs: Inputs, settings: ExportSettings, output: Path) -> ExportDocument:
    """Write an artifact again, in the layout of another client, and compare it with the original.

    Raises:
        UsageError: the client has no graphs of this precision.
        ModelError: the graph cannot be read, or lacks an output that the client needs.
    """
    source = inputs.source
    manifest = artifacts.read_manifest(source) or {}
    graph = _read(graph_file(source))
    _check_token_vectors(graph, settings)
    input_spec = recorded_input_spec(inputs)
    write_artifact(graph, source, output, inputs.pooling, input_spec)
    if (source / CANARIES).is_file():
        (output / CANARIES).write_bytes((source / CANARIES).read_bytes())
    recorded: RuntimeHints = manifest.get("runtime") or RUNTIME_HINTS
    hints = cast("RuntimeHints", {key: value for key, value in recorded.items() if key not in OTHER_RUNTIME})
    data, texts = verification_data(inputs, source)
    original = OnnxModel(source, hints=hints)
    verification = verify(original.logits, served_forwards(output, hints)[ONNXRUNTIME], data, original.target)
    announce_verification(verification, "the artifact", original.target)
    document = {
        **{key: manifest[key] for key in KEPT if key in manifest},
        "precision": manifest.get("precision", "fp32"),
        "runtime": hints,
        "verification": {**verification.as_json(), "against": "the artifact", "texts": texts},
        "input_spec": input_spec.as_json(),
        "graph_inputs": [entry.name for entry in graph.graph.input],
        "graph_outputs": [entry.name for entry in graph.graph.output],
        "size_mb": (output / GRAPH).stat().st_size / 1e6,
        "metrics": {"max_abs_difference": verification.max_abs, "argmax_agreement": verification.agreement},
    }
    return cast("ExportDocument", {**document, "graph": move_graph(output, settings.layout, document["precision"])})


def move_graph(folder: Path, layout: str, precision: str) -> str:
    """Move the graph of a new artifact to where a client looks for it; returns its path in the folder.

    Raises:
        UsageError: the client has no graphs of this precision.
    """
    by_precision = layout == "transformers.js"
    if by_precision and precision not in BY_PRECISION:
        raise UsageError(f"{layout} opens no {precision} graphs", f"it opens {', '.join(BY_PRECISION)}")
    path = f"{GRAPH_FOLDER}/{BY_PRECISION[precision] if by_precision else GRAPH}"
    (folder / GRAPH_FOLDER).mkdir()
    (folder / GRAPH).rename(folder / path)
    return path


def _check_token_vectors(graph: onnx.ModelProto, settings: ExportSettings) -> None:
    """Refuse an embedder's graph without the vectors of its tokens if they are asked for.

    Raises:
        ModelError: it is one.
    """
    outputs = [entry.name for entry in graph.graph.output]
    asked = settings.layout == "sentence-transformers" or settings.token_embeddings
    if asked and VECTOR in outputs and STATES not in outputs:
        raise ModelError(
            "the graph of this artifact computes the first token only, and the vectors of all tokens are wanted",
            "export the checkpoint with --token-embeddings, and quantize that artifact",
        )


def _read(path: Path) -> onnx.ModelProto:
    refuse_linked_weights(path)
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's errors share no base class with onnx's
        raise ModelError(f"{path} cannot be read: {(str(error).splitlines() or ['?'])[0]}") from error
