"""Predict for texts with a checkpoint or an ONNX artifact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from compress.core import artifacts
from compress.core.errors import UsageError
from compress.data.input_spec import DOCUMENT_PROMPTS, QUERY_PROMPTS
from compress.data.texts import examples_from_texts
from compress.inference.artifact import ManyTexts, OnnxModel
from compress.inference.batches import run_batches
from compress.inference.decoding import Output, describe_outputs
from compress.inference.forward import check_graph_pooling, open_forward
from compress.models.activation import is_reranker
from compress.models.config import read_config
from compress.models.config_heads import class_names
from compress.models.inputs import encode_for, input_spec_of
from compress.models.layout import is_graph
from compress.models.reference import locate


def open_predictor(
    reference: str | Path,
    device: str = "cpu",
    pooling: str | None = None,
    query_first: bool = False,
    single: bool = False,
    check: bool = True,
) -> Callable[[ManyTexts], list[Output]]:
    """Open a model and return a function from texts (or pairs of texts) to predictions, in the same order.

    Args:
        reference: a folder, a hub id, or a builtin.
        device: `auto`, `cpu` or `cuda`.
        pooling: opens a pre-trained encoder as an embedder, if its folder does not name its pooling.
        query_first: pairs are a query and a document: an embedder puts its prompts for them before the texts.
        single: it will be given texts that are no pairs.
        check: compare an artifact's outputs with those that it carries.

    Raises:
        UsageError: another pooling than the folder's, or a reranker for single texts.
        ModelError: the model is damaged or not supported, or an artifact that is no embedder was given a pooling.
        ResourceError: the device or the hub model is unavailable.
    """
    folder, prompts = locate(reference), (QUERY_PROMPTS, DOCUMENT_PROMPTS) if query_first else ()
    if single and is_reranker(read_config(folder), artifacts.read_manifest(folder)):
        raise UsageError(
            f"{folder} is a reranker, which scores passages for a query", "give the query with --query, and the passages as texts"
        )
    if is_graph(folder):
        check_graph_pooling(folder, pooling)
        model = OnnxModel(folder, device=device, check=check)
        model.input_spec = replace(model.input_spec, prompts=prompts)
        return model
    config = read_config(folder)
    forward = open_forward(folder, device, target="vector" if pooling else None, pooling=pooling)
    input_spec, labels = input_spec_of(config, artifacts.read_manifest(folder)), class_names(config)
    input_spec = replace(input_spec, prompts=prompts, **({"target": "vector"} if pooling else {}))

    def predict(texts: ManyTexts) -> list[Output]:
        if not texts:
            return []
        examples = examples_from_texts(texts, input_spec)
        data = encode_for(folder, examples, input_spec)
        return describe_outputs(run_batches(forward, data), data, examples, input_spec, labels)

    return predict
