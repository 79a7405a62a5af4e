"""A forward function, from numpy batches to logits, for a PyTorch model, a checkpoint or an ONNX artifact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.core import console
from compress.core.errors import ModelError
from compress.data.input_spec import Target
from compress.inference.artifact import OnnxModel
from compress.inference.batches import Forward
from compress.models.config import read_config
from compress.models.int8_ranges import recorded_ranges
from compress.models.layout import is_graph
from compress.models.sentence_head import head_with_pooling, is_embedder
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    import torch


def torch_forward(model: TransformersModel, device: torch.device | None = None) -> Forward:
    """Return a function from a numpy batch to logits, (batch, …) float32, for a PyTorch model.

    The model runs as it is at each call: later changes to its weights, and its evaluation or training mode, take effect.

    Args:
        model: a model with its head.
        device: where the model is; by default where it is at each call.
    """
    import torch

    from compress.models.device import to_tensors
    from compress.models.task_loss import logits_of

    def forward(batch: dict[str, np.ndarray]) -> np.ndarray:
        place = device or getattr(model, "device", torch.device("cpu"))
        with torch.inference_mode():
            return logits_of(model(**to_tensors(batch, model, place))).float().cpu().numpy()

    return forward


def check_graph_pooling(folder: Path, pooling: str | None) -> None:
    """Check that a pooling, if one is given, is that of an ONNX artifact: a graph cannot change.

    Raises:
        ModelError: the artifact is no embedder.
        UsageError: its pooling is another one.
    """
    if pooling is None:
        return
    config = read_config(folder)
    if not is_embedder(config):
        raise ModelError(
            f"{folder} is the graph of a model without pooling", "export the encoder with --kind sentence-embedding and --pooling"
        )
    head_with_pooling(config, pooling, str(folder))


def open_forward(
    folder: Path,
    device: str = "cpu",
    threads: int | None = None,
    target: Target | None = None,
    pooling: str | None = None,
    check: bool = True,
    rounded: bool = True,
) -> Forward:
    """Open a checkpoint or an ONNX artifact and return its forward function.

    A checkpoint with int8 ranges computes what its static int8 graph does.

    Args:
        folder: of the model.
        device: `auto`, `cpu` or `cuda`; `auto` means the CPU for an artifact.
        threads: of an artifact's runtime; a checkpoint uses PyTorch's own setting.
        target: what it is opened for, as for `load_model`.
        pooling: of an embedder whose folder does not name it.
        check: compare an artifact's outputs with those that it carries.
        rounded: use the int8 ranges that a checkpoint was trained with; false: it computes with floats.

    Raises:
        UsageError: another pooling than the folder's.
        ModelError: the model is damaged or not supported, or `pooling` was given for the graph of another model than an embedder.
        ResourceError: the device is unavailable.
    """
    if is_graph(folder):
        check_graph_pooling(folder, pooling)
        return OnnxModel(folder, threads, "cpu" if device == "auto" else device, check=check).logits
    from compress.models.checkpoint import load_model
    from compress.models.device import pick_device

    place = pick_device(device)
    model = load_model(folder, target=target, pooling=pooling).to(place)
    if rounded and (ranges := recorded_ranges(model.config.to_dict())):
        from compress.models.int8_rounding import round_to_int8

        console.info(f"  {folder.name}: computed with the int8 rounding that it was trained with")
        round_to_int8(model, ranges)
    return torch_forward(model, place)
