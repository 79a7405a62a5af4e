"""An ONNX artifact: write its files, open it as it is served, and get the texts it is verified on and its input spec."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from compress.core import artifacts, disk
from compress.data.encoded import Encoded
from compress.data.input_spec import InputSpec
from compress.data.sample_texts import sample_examples
from compress.export.verify import evenly_spaced
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward
from compress.inference.routes import ONNXRUNTIME, recorded_runtimes
from compress.models.config import longest_input, read_config, serving_length
from compress.models.config_heads import target_of
from compress.models.family import family_of
from compress.models.inputs import encode_for, input_spec_of
from compress.models.layout import GRAPH, WEIGHTS
from compress.models.sentence_folder import dense_folders, step_folder, write_sentence_head
from compress.models.sentence_head import SentenceHead, head_with_pooling
from compress.models.tokenizer import limit_length, save_tokenizer
from compress.models.types import Config
from compress.results.graphs import RuntimeHints
from compress.stage import Inputs

VERIFIED_EXAMPLES = 256
CUT = ("class", "labels", "value")  # long inputs are cut, not split into windows
SAMPLE_SPEC = InputSpec(max_length=512)  # only texts, whatever the model predicts: the logits are compared


def write_artifact(
    graph: onnx.ModelProto, source: Path, output: Path, pooling: str | None = None, input_spec: InputSpec | None = None
) -> None:
    """Write `model.onnx`, and the `config.json` and tokenizer of `source`, into `output`.

    With an embedder go the files of its head, for clients that compute it themselves; the graph does so, too.

    Args:
        graph: the graph.
        source: the model that it was made from.
        output: an existing folder.
        pooling: of an embedder whose folder names none.
        input_spec: how its inputs are encoded; other clients cut them to the same length.
    """
    disk.check_space(output, graph.ByteSize())
    onnx.save(graph, str(output / GRAPH))
    (output / "config.json").write_bytes((source / "config.json").read_bytes())
    save_tokenizer(source, output)
    config = read_config(source)
    embedder = bool(pooling) or target_of(config) == "vector"
    if embedder:
        _write_head(head_with_pooling(config, pooling, str(source)), config, source, output)
    if input_spec is not None and input_spec.target in CUT:
        longest = input_spec.max_length
    else:
        longest = longest_input(config, "vector" if embedder else "class")
    limit_length(output, longest)


def _write_head(head: SentenceHead, config: Config, source: Path, output: Path) -> None:
    """Write the files of an embedder's head, with the weights of its dense layers."""
    write_sentence_head(output, head, config[family_of(config["model_type"]).state_key])
    for number, folder in zip(head.dense_steps, dense_folders(source), strict=False):
        weights = folder / WEIGHTS
        if weights.is_file():  # older artifacts have none
            (output / step_folder(number, head.steps[number]) / WEIGHTS).write_bytes(weights.read_bytes())


def served_forwards(folder: Path, hints: RuntimeHints) -> dict[str, Forward]:
    """Open a new artifact by its hints; returns the forward function of ONNX Runtime and of each runtime that serves it."""
    artifact = OnnxModel(folder, hints=hints)
    return {runtime: artifact.open_runtime(runtime) for runtime in dict.fromkeys([ONNXRUNTIME, *recorded_runtimes(hints)])}


def verification_data(inputs: Inputs, source: Path) -> tuple[Encoded, str]:
    """Return the encoded texts to verify on and where they come from: the task's validation split, else built-in samples.

    Queries are short, so an embedder with judgements is verified on its corpus, which is the training split.
    """
    if inputs.task_or_none is None:
        spec = replace(SAMPLE_SPEC, target="vector") if target_of(read_config(source)) == "vector" else SAMPLE_SPEC
        return encode_for(source, sample_examples(), spec), "built-in samples"
    task = inputs.task
    searches = task.retrieval is not None and task.spec.target == "vector"
    split = "train" if searches else "validation" if "validation" in task.available else task.available[0]
    examples = task.model_inputs(split)
    positions = evenly_spaced(len(examples), VERIFIED_EXAMPLES)
    return encode_for(source, examples.take(positions), task.spec.input_spec), f"{task.spec.name}, {split}"


def recorded_input_spec(inputs: Inputs) -> InputSpec:
    """Return how inputs are encoded and outputs decoded: as the task says, else as the source's manifest records."""
    config = read_config(inputs.source)
    if inputs.task_or_none is None:
        return input_spec_of(config, artifacts.read_manifest(inputs.source))
    input_spec = inputs.task_or_none.spec.input_spec
    return replace(input_spec, max_length=serving_length(config, input_spec.target, input_spec.max_length))
