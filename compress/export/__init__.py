"""PyTorch to ONNX: the stage `export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from compress import console, fs
from compress.errors import ModelError
from compress.export.graph import build_graph
from compress.export.verify import Verification, verify
from compress.model.artifact import OnnxModel
from compress.model.checkpoint import count_params, load_model, model_shape
from compress.model.config import GRAPH, max_tokens, read_config
from compress.model.scorer import torch_forward
from compress.model.tokenizer import save_tokenizer
from compress.settings import ExportSettings
from compress.stage import Inputs
from compress.task.encode import Encoded, encode_for
from compress.task.reading import Reading, reading_of
from compress.task.samples import sample_examples

VERIFIED_EXAMPLES = 256
SAMPLES = Reading(max_length=512)  # texts alone, whatever the model answers: what is compared are logits
# ONNX Runtime's fusions of these patterns are slower on CPUs than what they replace: see docs/decisions.
RUNTIME_HINTS: dict[str, Any] = {"disabled_optimizers": ["SkipLayerNormFusion", "BiasGeluFusion"]}


def run(inputs: Inputs, settings: ExportSettings, output: Path) -> dict[str, Any]:
    """Write the graph, its config and tokenizer; verify it against PyTorch on real texts.

    Raises:
        ModelError: the graph's logits differ by more than the tolerance; the message names the worst case.
    """
    source = inputs.source
    model = load_model(source)
    graph = build_graph(model)
    write_artifact(graph, source, output)
    data, texts = verification_data(inputs, source)
    artifact = OnnxModel(output, hints=RUNTIME_HINTS)
    found = verify(torch_forward(model), artifact.logits, data, artifact.target)
    if not found.max_abs <= settings.tolerance:
        raise ModelError(
            f"the exported graph differs from PyTorch by {found.max_abs:.2e} on '{found.worst_case}', more than {settings.tolerance:g}",
            "if the model's logits are very large, allow more with --tolerance; otherwise this is a bug of ours: please report it",
        )
    announce(found, "PyTorch")
    return {
        "precision": "fp32",
        "runtime": RUNTIME_HINTS,
        "verification": {**found.as_json(), "against": "PyTorch", "texts": texts, "tolerance": settings.tolerance},
        "reading": recorded_reading(inputs).as_json(),
        "params": count_params(model),
        "layers": model_shape(model).as_json(),
        "graph_inputs": [entry.name for entry in graph.graph.input],
        "size_mb": (output / GRAPH).stat().st_size / 1e6,
        "metrics": {"max_abs_difference": found.max_abs, "argmax_agreement": found.agreement},
    }


def write_artifact(graph: onnx.ModelProto, source: Path, output: Path) -> None:
    """Write `model.onnx`, `config.json` and the tokenizer of `source` into `output`."""
    fs.check_space(output, graph.ByteSize())
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
    return encode_for(source, examples.take(positions), task.spec.reading), f"{task.spec.name}, {split}"


def recorded_reading(inputs: Inputs) -> Reading:
    """Return how inputs are to be cut and outputs read: as the task says, or the task that the source was made for."""
    config = read_config(inputs.source)
    if inputs.task_or_none is None:
        return reading_of(config, fs.read_manifest(inputs.source))
    reading = inputs.task_or_none.spec.reading
    return replace(reading, max_length=min(reading.max_length, max_tokens(config)))


def announce(found: Verification, against: str) -> None:
    """Tell the user how far two models agree."""
    console.info(
        f"  against {against}: logits differ by at most {found.max_abs:.1e}, answers agree on {100 * found.agreement:.1f} % "
        f"of {found.examples} examples in {len(found.cases)} batch shapes"
    )
