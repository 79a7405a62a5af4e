"""Our artifacts: an ONNX artifact with the session options that it records, or a checkpoint in PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peers import Opened


def open_model(variant: str, folder: Path, threads: int) -> Opened:
    """Open a folder that `compress` wrote, as `compress.load_onnx` and `compress.load_model` do."""
    from compress.core import artifacts
    from compress.inference.artifact import OnnxModel
    from compress.models.layout import is_graph
    from peers.onnx_session import SESSION_CONFIG

    if is_graph(folder):
        recorded: dict[str, Any] = (artifacts.read_manifest(folder) or {}).get("runtime", {})
        hints = recorded | {"session_config": recorded.get("session_config", {}) | SESSION_CONFIG}
        artifact = OnnxModel(folder, threads, hints=hints)
        return artifact.logits, {"providers": artifact.session.get_providers()}
    import torch

    from compress.inference.forward import open_forward as open_checkpoint

    torch.set_num_threads(threads)
    return open_checkpoint(folder), {}
