"""Names of the files in a model folder."""

from __future__ import annotations

from pathlib import Path

from compress.core.artifacts import read_manifest

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"  # of weights in several files
GRAPH = "model.onnx"
OPENVINO_GRAPH = "openvino.onnx"
CANARIES = "canaries.json"  # a few texts with their outputs, checked when an artifact is opened
GRAPH_FOLDER = "onnx"  # where other clients look for graphs
BY_PRECISION = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_quantized.onnx", "int4": "model_q4.onnx"}


def graph_file(folder: Path) -> Path:
    """Return the graph of an artifact, if it is one: `model.onnx`, or in the layout of another client the file that the manifest names."""
    if not (folder / GRAPH).is_file() and (folder / GRAPH_FOLDER).is_dir():
        recorded = (read_manifest(folder) or {}).get("graph")
        if recorded in [f"{GRAPH_FOLDER}/{name}" for name in BY_PRECISION.values()]:
            return folder / str(recorded)
    return folder / GRAPH


def is_graph(folder: Path) -> bool:
    """Return whether a folder is an ONNX artifact."""
    return graph_file(folder).is_file()
