"""bf16: weights stored as bfloat16, for runtimes that compute in it.

ONNX Runtime has no bfloat16 kernels for CPUs, not even for MatMul. So only the weights are bfloat16, and each is cast to float32
where it is read: half the file, the same speed there. OpenVINO and GPUs compute in bfloat16 when told to (OpenVINO by a
precision hint, which the manifest records). Inputs stay token ids and logits stay float32.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from compress.export.graph_editing import FLOAT, GraphEditor

BF16 = TensorProto.BFLOAT16
MIN_WEIGHTS = 1024  # smaller tensors (biases, norms, scalars) stay float32: they save nothing


def bf16_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a float graph whose matrices are stored in bfloat16 and cast to float32 where they are read.

    The rows of an embedding table are cast after the look-up, so that the table takes half the memory too.
    """
    editor = GraphEditor(model)
    converted = _convert_matrices(editor)
    cast: set[str] = set()
    for node in list(editor.nodes):
        if node.op_type == "Gather" and node.input[0] in converted:
            output = node.output[0]
            node.output[0] = f"{output}.bf16"
            editor.replace(node, node, helper.make_node("Cast", [f"{output}.bf16"], [output], name=f"{output}.float", to=FLOAT))
            continue
        for position, name in enumerate(node.input):
            if name not in converted:
                continue
            if name not in cast:
                cast.add(name)
                editor.insert_before(node, helper.make_node("Cast", [name], [f"{name}.float"], name=f"{name}.float", to=FLOAT))
            node.input[position] = f"{name}.float"
    return editor.finish()


def _convert_matrices(editor: GraphEditor) -> set[str]:
    """Store the large float matrices as bfloat16; returns their names."""
    large = [
        name
        for name, tensor in editor.initializers.items()
        if tensor.data_type == FLOAT and len(tensor.dims) > 1 and np.prod(tensor.dims) >= MIN_WEIGHTS
    ]
    for name in large:
        array = editor.array(name)
        editor.initializers[name] = helper.make_tensor(name, BF16, array.shape, to_bf16(array).tobytes(), raw=True)
    return set(large)


def to_bf16(array: np.ndarray) -> np.ndarray:
    """Return the bits of finite float32 numbers rounded to bfloat16, to nearest, ties to even: uint16, the same shape."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
