"""Where PyTorch computes."""

from __future__ import annotations

import torch

from compress.errors import ResourceError


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
