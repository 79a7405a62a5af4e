"""bf16: weights kept as bfloat16, for runtimes that compute in it.

ONNX Runtime has no bfloat16 kernels for CPUs, not even for a MatMul. So only the weights are bfloat16, each cast to float32 where
it is read: half the file, the same speed there. OpenVINO and GPUs compute in bfloat16 when told to (OpenVINO by its precision
hint, which the manifest records). Token ids go in and float32 logits come out as before.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.quantize.matmuls import drop_unused

FLOAT, BF16 = TensorProto.FLOAT, TensorProto.BFLOAT16
MIN_WEIGHTS = 1024  # smaller tensors (biases, norms, scalars) stay float32 in bf16: they save nothing


def bf16_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float graph whose matrices are stored in bfloat16 and cast to float32 where they are read.

    A table that is looked up is cast after the look-up, so that it stays half its size in memory, too.

    Args:
        model: left as it is.
    """
    graph = copy.deepcopy(model)
    halved: set[str] = set()
    for tensor in graph.graph.initializer:
        if tensor.data_type == FLOAT and len(tensor.dims) > 1 and np.prod(tensor.dims) >= MIN_WEIGHTS:
            array = numpy_helper.to_array(tensor)
            name, dims = tensor.name, list(tensor.dims)
            tensor.CopyFrom(helper.make_tensor(name, BF16, dims, to_bf16(array).tobytes(), raw=True))
            halved.add(name)
    nodes: list[onnx.NodeProto] = []
    cast: set[str] = set()
    for node in graph.graph.node:
        if node.op_type == "Gather" and node.input[0] in halved:
            found = node.output[0]
            node.output[0] = f"{found}.bf16"
            nodes += [node, helper.make_node("Cast", [f"{found}.bf16"], [found], name=f"{found}.float", to=FLOAT)]
            continue
        for position, name in enumerate(node.input):
            if name in halved:
                if name not in cast:
                    nodes.append(helper.make_node("Cast", [name], [f"{name}.float"], name=f"{name}.float", to=FLOAT))
                    cast.add(name)
                node.input[position] = f"{name}.float"
        nodes.append(node)
    kept = [copy.deepcopy(node) for node in nodes]
    del graph.graph.node[:]
    graph.graph.node.extend(kept)
    drop_unused(graph)
    return graph


def to_bf16(array: np.ndarray) -> np.ndarray:
    """Return the bits of finite float32 numbers rounded to bfloat16, to the nearest, ties to even: uint16, the same shape."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
