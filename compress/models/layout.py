"""Names of the files in a model folder."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # of weights in several files
GRAPH = "model.onnx"
OPENVINO_GRAPH = "openvino.onnx"
CANARIES = "canaries.json"  # a few texts with their outputs, checked when an artifact is opened


def is_graph(folder: Path) -> bool:
    """Return whether a folder is an ONNX artifact."""
    return (folder / GRAPH).is_file()
