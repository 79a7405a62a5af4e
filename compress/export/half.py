"""A graph of ours in float16, for GPUs: weights and activations are half as large, the logits stay float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.core.errors import ModelError

LARGEST = float(np.finfo(np.float16).max)


def fp16_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an fp32 graph of `build_graph` in float16: constants and casts; every output is cast to float32 at the end.

    LayerNorms still sum in float32, as the operator does by default (`stash_type` 1).

    Raises:
        ModelError: a weight does not fit into float16.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    for tensor in graph.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor)
            if not np.abs(array).max(initial=0) <= LARGEST:
                raise ModelError(
                    f"the weights '{tensor.name}' do not fit into float16: beyond {LARGEST:g}",
                    "keep them in fp32, or quantize to bf16 or int8",
                )
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    outputs = {value.name for value in graph.graph.output}
    for node in graph.graph.node:
        if node.op_type == "Cast":
            for attribute in node.attribute:
                attribute.i = TensorProto.FLOAT16 if attribute.i == TensorProto.FLOAT else attribute.i
        elif node.output[0] in outputs:  # the Identity that names it
            node.op_type = "Cast"
            node.attribute.append(helper.make_attribute("to", TensorProto.FLOAT))
    onnx.checker.check_model(graph)
    return graph
