"""Logits of a whole encoded split, from a PyTorch model or an ONNX artifact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress import console
from compress.model.artifact import OnnxModel
from compress.model.config import is_graph
from compress.task.encode import Encoded, evaluation_batches

if TYPE_CHECKING:
    import torch

Forward = Callable[[dict[str, np.ndarray]], np.ndarray]


def score(forward: Forward, data: Encoded, batch_size: int = 32, label: str = "") -> np.ndarray:
    """Run batches sorted by length through `forward`; returns (n, classes) float32 in the data's order."""
    batches = evaluation_batches(data.lengths, batch_size)
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    with console.progress(label or "scoring", len(batches)) as advance:
        for positions in batches:
            rows.append((positions, forward(data.batch(positions))))
            advance()
    result = np.empty((len(data), rows[0][1].shape[1]), dtype=np.float32)
    for positions, logits in rows:
        result[positions] = logits
    return result


def torch_forward(model: Any, device: torch.device | None = None) -> Forward:
    """Return a function from a numpy batch to logits, for a PyTorch classifier as it stands (in evaluation mode)."""
    import torch

    from compress.model.family import family_of

    token_types = family_of(model.config.model_type).token_types
    where = device or torch.device("cpu")

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(array).to(where) for name, array in batch.items() if name != "token_type_ids" or token_types}
        with torch.inference_mode():
            return model(**tensors).logits.float().cpu().numpy()

    return forward


def open_classifier(folder: Path, device: str = "cpu", threads: int | None = None) -> tuple[Forward, list[str]]:
    """Open a checkpoint or an ONNX artifact; returns its forward function and its class names."""
    if is_graph(folder):
        artifact = OnnxModel(folder, threads, "cpu" if device == "auto" else device)
        artifact.session  # noqa: B018 (opened now, so that its errors come now)
        return artifact.logits, artifact.labels
    from compress.model.checkpoint import load_model, model_labels
    from compress.model.device import pick_device

    where = pick_device(device)
    model = load_model(folder).to(where)
    return torch_forward(model, where), model_labels(model)
