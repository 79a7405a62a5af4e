"""Answer texts with a checkpoint or an ONNX artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compress import fs
from compress.model.artifact import ManyTexts, OnnxModel
from compress.model.config import class_names, is_graph, read_config
from compress.model.reference import locate
from compress.model.scorer import open_model, score
from compress.task.answers import Answer, describe_outputs, examples_of
from compress.task.encode import encode_for
from compress.task.reading import reading_of


def open_predictor(reference: str | Path, device: str = "cpu") -> Callable[[ManyTexts], list[Answer]]:
    """Open a model; returns a function from texts (or pairs of texts) to answers, in the same order.

    Raises:
        ModelError, ResourceError: as opening the model raises them.
    """
    folder = locate(reference)
    if is_graph(folder):
        return OnnxModel(folder, device=device)
    forward, config = open_model(folder, device), read_config(folder)
    reading, labels = reading_of(config, fs.read_manifest(folder)), class_names(config)

    def predict(texts: ManyTexts) -> list[Answer]:
        if not texts:
            return []
        examples = examples_of(texts, reading)
        data = encode_for(folder, examples, reading)
        return describe_outputs(score(forward, data), data, examples, reading, labels)

    return predict
