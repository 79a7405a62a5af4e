"""Half precision: fp16, a graph that computes in float16; bf16, weights kept as bfloat16 for runtimes that compute in it.

Token ids go in and float32 logits come out as before, so an application sees no difference.

fp16: every float inside becomes float16. The LayerNorms' means and variances are float32 all the same (`stash_type`), and
kernels of Softmax add in float32. ONNX Runtime's CPU kernels for most of it are those of float32 between casts, so this form
is for GPUs.

bf16: ONNX Runtime has no bfloat16 kernels for CPUs, not even for a MatMul. So only the weights are bfloat16, each cast to
float32 where it is read: half the file, the same speed there. OpenVINO and GPUs compute in bfloat16 when told to (OpenVINO by
its precision hint, which the manifest records).
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.errors import ModelError
from compress.model.artifact import open_session
from compress.quantize.calibrate import BATCH_TOKENS, with_outputs
from compress.quantize.products import drop_unused
from compress.task.encode import Encoded, evaluation_batches

LARGEST_FP16 = 65504.0
FLOAT, FP16, BF16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
MIN_WEIGHTS = 1024  # smaller tensors (biases, norms, scalars) stay float32 in bf16: they save nothing


def fp16_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a float graph in float16, its outputs float32.

    Args:
        model: left as it is.

    Raises:
        ModelError: a weight beyond what float16 can hold.
    """
    graph = copy.deepcopy(model)
    for tensor in graph.graph.initializer:
        if tensor.data_type == FLOAT:
            array = numpy_helper.to_array(tensor)
            if array.size and np.abs(array).max() > LARGEST_FP16:
                raise ModelError(
                    f"{tensor.name} has weights beyond {LARGEST_FP16:g}, the largest number of float16", "use --method bf16, or int8"
                )
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    inner = {value.name: f"{value.name}.fp16" for value in graph.graph.output if value.type.tensor_type.elem_type == FLOAT}
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = [inner.get(name, name) for name in names]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
                attribute.i = FP16
            elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == FLOAT:
                attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
    graph.graph.node.extend(helper.make_node("Cast", [half], [name], name=half, to=FLOAT) for name, half in inner.items())
    del graph.graph.value_info[:]  # what they say of types no longer holds
    return graph


def check_range(model: onnx.ModelProto, data: Encoded, examples: int = 64) -> None:
    """Check on some texts that every value inside a float graph fits float16.

    ONNX Runtime's CPU kernels cannot tell: they compute in float32, and most casts between them cancel out.

    Raises:
        ModelError: a value beyond what float16 can hold.
    """
    names = [name for node in model.graph.node for name in node.output if name]
    session = open_session(with_outputs(model, names).SerializeToString(), None, "cpu", {})
    some = data.take(np.linspace(0, len(data) - 1, min(examples, len(data))).astype(int))
    for positions in evaluation_batches(some.lengths, examples, BATCH_TOKENS):
        batch = some.batch(positions)
        for name, value in zip(names, session.run(names, {entry.name: batch[entry.name] for entry in session.get_inputs()}), strict=True):
            if value.dtype == np.float32 and value.size and not np.abs(value).max() <= LARGEST_FP16:
                raise ModelError(
                    f"{name} reaches {np.abs(value).max():g}, beyond {LARGEST_FP16:g}, the largest number of float16",
                    "use --method bf16, or int8",
                )


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
