"""Label texts with a checkpoint or an ONNX artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from compress import fs
from compress.model.artifact import OnnxModel, Prediction, Texts, softmax
from compress.model.config import is_graph, max_tokens, read_config
from compress.model.reference import locate
from compress.model.scorer import open_classifier, score
from compress.task.encode import encode_for
from compress.task.load import Examples


def open_predictor(reference: str | Path, device: str = "cpu") -> Callable[[list[Texts]], list[Prediction]]:
    """Open a model; returns a function from texts (or pairs of texts) to predictions, in the same order.

    Raises:
        ModelError, ResourceError: as opening the model raises them.
    """
    folder = locate(reference)
    if is_graph(folder):
        artifact = OnnxModel(folder, device=device)
        return lambda texts: (
            [] if not texts else [Prediction(artifact.labels[row.argmax()], float(row.max())) for row in artifact.probabilities(texts)]
        )
    forward, labels = open_classifier(folder, device)
    task = (fs.read_manifest(folder) or {}).get("task") or {}
    limit = task.get("max_length") or max_tokens(read_config(folder))

    def predict(texts: list[Texts]) -> list[Prediction]:
        if not texts:
            return []
        examples = Examples([text if isinstance(text, tuple) else (text,) for text in texts], np.zeros(len(texts), dtype=np.int64))
        rows = softmax(score(forward, encode_for(folder, examples, limit)))
        return [Prediction(labels[row.argmax()], float(row.max())) for row in rows]

    return predict
