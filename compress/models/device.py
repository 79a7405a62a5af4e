"""Where PyTorch computes, and how a batch gets there."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

from compress.core.errors import ResourceError
from compress.models.family import family_of

Batch = dict[str, torch.Tensor]
Array = TypeVar("Array", np.ndarray, torch.Tensor)


def pick_device(wanted: str) -> torch.device:
    """Resolve `auto`, `cpu` or `cuda` to a device.

    Raises:
        ResourceError: CUDA was asked for and there is none; never falls back silently.
    """
    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        built = "this PyTorch is a CPU build" if torch.version.cuda is None else "PyTorch sees no GPU"
        raise ResourceError(f"--device cuda: {built}", "use --device cpu; 'compress doctor' shows what this machine has")
    return torch.device("cuda" if wanted == "cuda" or (wanted == "auto" and has_gpu) else "cpu")


def to_tensors(batch: dict[str, np.ndarray], model: Any, device: torch.device) -> Batch:
    """Move a padded batch to the device, without the inputs that the model's family does not have."""
    return {name: torch.from_numpy(array).to(device) for name, array in accepted_inputs(model, batch).items()}


def accepted_inputs(model: Any, batch: dict[str, Array]) -> dict[str, Array]:
    """Return a batch without `token_type_ids` if the model's family has no token types (DistilBERT, MPNet)."""
    if family_of(model.config.model_type).token_types:
        return batch
    return {name: array for name, array in batch.items() if name != "token_type_ids"}
