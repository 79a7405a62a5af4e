"""Where PyTorch computes, and how a batch gets there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from compress.core.errors import ResourceError
from compress.models.family import family_of

Batch = dict[str, torch.Tensor]


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
    """Move a padded batch to the device, leaving out what the family does not take."""
    tensors = {name: torch.from_numpy(array).to(device) for name, array in batch.items()}
    if not family_of(model.config.model_type).token_types:
        tensors.pop("token_type_ids", None)
    return tensors
