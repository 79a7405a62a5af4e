"""Choose PyTorch's device, and move batches to it."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from compress.core.errors import ResourceError
from compress.models.family import family_of
from compress.models.types import TransformersModel

Batch = dict[str, torch.Tensor]
Array = TypeVar("Array", np.ndarray, torch.Tensor)


def pick_device(name: str) -> torch.device:
    """Resolve `auto`, `cpu` or `cuda` to a device; `auto` is CUDA if there is a GPU.

    Raises:
        ResourceError: `cuda` without a GPU; there is no silent fallback.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        reason = "this PyTorch is a CPU build" if torch.version.cuda is None else "PyTorch sees no GPU"
        raise ResourceError(f"--device cuda: {reason}", "use --device cpu; 'compress doctor' shows what this machine has")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and has_gpu) else "cpu")


def to_tensors(batch: dict[str, np.ndarray], model: TransformersModel, device: torch.device) -> Batch:
    """Move a padded batch to the device, without the inputs that the model's family does not have."""
    return {name: torch.from_numpy(array).to(device) for name, array in accepted_inputs(model, batch).items()}


def accepted_inputs(model: TransformersModel, batch: dict[str, Array]) -> dict[str, Array]:
    """Return a batch without `token_type_ids` if the model's family has no token types (DistilBERT, MPNet, BiLSTM, static model)."""
    if family_of(model.config.model_type).token_types:
        return batch
    return {name: array for name, array in batch.items() if name != "token_type_ids"}
