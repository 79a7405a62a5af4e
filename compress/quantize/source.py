"""The float artifact that `quantize` starts from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from compress.core.errors import ModelError
from compress.export import run as export
from compress.inference.onnx_session import refuse_linked_weights
from compress.models.layout import graph_file, is_graph
from compress.quantize.dynamic import count_quantized
from compress.settings import ExportSettings
from compress.stage import Inputs

NO_FLOATS = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT8}


def float_artifact(inputs: Inputs, scratch: Path) -> Path:
    """Return the folder of the source's float artifact; a checkpoint is exported into `scratch`, and verified as by `export`.

    Raises:
        ModelError: the graph is damaged, quantized already, or has weights that are not finite.
    """
    folder = inputs.source
    if not is_graph(folder):
        folder = scratch / "float"
        folder.mkdir()
        export(inputs, ExportSettings.model_validate({}), folder)
    _check_float(_read_graph(graph_file(folder)), inputs.source)
    return folder


def _read_graph(path: Path) -> onnx.ModelProto:
    """Read a graph with its weights.

    Raises:
        ModelError: it is damaged, or has weights outside its folder.
    """
    refuse_linked_weights(path)
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's errors share no base class with onnx's
        raise ModelError(f"{path} cannot be read: {(str(error).splitlines() or ['?'])[0]}") from error


def _check_float(graph: onnx.ModelProto, source: Path) -> None:
    """Check that a graph is fp32 and that its weights are finite.

    Raises:
        ModelError: it is not.
    """
    types = {tensor.data_type for tensor in graph.graph.initializer}
    if count_quantized(graph)[0] or types & NO_FLOATS:
        raise ModelError(f"{source} is quantized already", "give the checkpoint or the fp32 artifact it was created from")
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not np.isfinite(numpy_helper.to_array(tensor)).all():
            raise ModelError(f"{source}: the weights '{tensor.name}' are not finite", "the training that produced them diverged")
