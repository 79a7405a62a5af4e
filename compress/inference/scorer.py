"""Outputs and answers of a whole encoded split, from a PyTorch model or an ONNX artifact."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.core import console
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.data.examples import Examples
from compress.data.metrics import compute
from compress.inference.artifact import OnnxModel
from compress.inference.decoding import read_answers
from compress.models.config import is_graph

if TYPE_CHECKING:
    import torch

    from compress.data.task import Task

Forward = Callable[[dict[str, np.ndarray]], np.ndarray]


def score(
    forward: Forward, data: Encoded, batch_size: int = 32, label: str = "", dtype: type = np.float32, max_tokens: int | None = None
) -> np.ndarray:
    """Run batches sorted by length through `forward`; see `evaluation_batches` for their sizes.

    Returns:
        (n, logits) of `dtype` in the data's order; where every token has its own logits (tokens, logits), the tokens of
        window i at `data.starts[i] : data.starts[i + 1]`, padding left out.
    """
    batches = evaluation_batches(data.lengths, batch_size, max_tokens)
    result = np.empty((0, 0), dtype=dtype)
    with console.progress(label, len(batches)) if label else nullcontext(lambda: None) as advance:
        for number, positions in enumerate(batches):
            outputs = forward(data.batch(positions))
            if number == 0:
                rows = len(data) if outputs.ndim == 2 else int(data.starts[-1])
                result = np.empty((rows, outputs.shape[-1]), dtype=dtype)
            if outputs.ndim == 2:
                result[positions] = outputs
            else:
                for row, i in enumerate(positions):
                    result[data.starts[i] : data.starts[i + 1]] = outputs[row, : data.lengths[i]]
            advance()
    return result


def answers_of(
    forward: Forward, data: Encoded, examples: Examples, task: Task, classes: np.ndarray, batch_size: int = 32, label: str = ""
) -> Any:
    """Return a model's answers to encoded examples, in the form of `Examples.labels`; see `read_answers`."""
    return read_answers(score(forward, data, batch_size, label), data, examples, task.spec.input_spec, classes)


def measure(forward: Forward, data: Encoded, examples: Examples, task: Task, classes: np.ndarray, label: str) -> dict[str, float]:
    """Return the task's metrics of a model on encoded examples."""
    answers = answers_of(forward, data, examples, task, classes, label=label)
    return compute(task.spec.metrics, examples.labels, answers, task.label_names)


def torch_forward(model: Any, device: torch.device | None = None) -> Forward:
    """Return a function from a numpy batch to logits, for a PyTorch model as it stands (in evaluation mode)."""
    import torch

    from compress.models.family import family_of
    from compress.models.task_loss import logits_of

    token_types = family_of(model.config.model_type).token_types
    where = device or torch.device("cpu")

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        tensors = {name: torch.from_numpy(array).to(where) for name, array in batch.items() if name != "token_type_ids" or token_types}
        with torch.inference_mode():
            return logits_of(model(**tensors)).float().cpu().numpy()

    return forward


def open_model(folder: Path, device: str = "cpu", threads: int | None = None) -> Forward:
    """Open a checkpoint or an ONNX artifact; returns its forward function."""
    if is_graph(folder):
        return OnnxModel(folder, threads, "cpu" if device == "auto" else device).logits
    from compress.models.checkpoint import load_model
    from compress.models.device import pick_device

    where = pick_device(device)
    model = load_model(folder).to(where)
    return torch_forward(model, where)
