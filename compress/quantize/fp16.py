"""A float16 graph for GPUs: weights and activations are half as large, the logits stay float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from compress.core.errors import ModelError
from compress.data.batching import evaluation_batches
from compress.data.encoded import Encoded
from compress.export.graph_editing import FLOAT, GraphEditor, expose_values
from compress.export.verify import subsample
from compress.inference.onnx_session import open_session, run_arrays
from compress.quantize.calibrate import BATCH_TOKENS

HALF = TensorProto.FLOAT16
LARGEST_FP16 = float(np.finfo(np.float16).max)


def fp16_graph(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of an fp32 graph of `build_graph` in float16; every output is cast to float32 at the end.

    LayerNorms still sum in float32, as the operator does by default (`stash_type` 1), and so do the steps of an RMSNorm: squares of
    states exceed float16.

    Raises:
        ModelError: a weight exceeds the range of float16.
    """
    editor = GraphEditor(model)
    kept = {name for node in _in_float32(editor) for name in node.input}
    for name, tensor in editor.initializers.items():
        if tensor.data_type == FLOAT and name not in kept:
            editor.initializers[name] = _to_fp16(editor.array(name), name)
    outputs = {value.name for value in model.graph.output}
    for node in editor.nodes:
        if node.op_type == "Cast":
            for attribute in node.attribute:
                attribute.i = TensorProto.FLOAT16 if attribute.i == FLOAT else attribute.i
        elif node.output[0] in outputs:  # the Identity that names it
            node.op_type = "Cast"
            node.attribute.append(helper.make_attribute("to", FLOAT))
    for node in _in_float32(editor):
        if node.op_type == "Pow":
            before = helper.make_node("Cast", [node.input[0]], [f"{node.name}.wide"], name=f"{node.name}.wide", to=FLOAT)
            editor.insert_before(node, before)
            node.input[0] = before.output[0]
        elif node.op_type == "Sqrt":
            output, node.output[0] = node.output[0], f"{node.name}.wide"
            editor.replace(node, node, helper.make_node("Cast", [f"{node.name}.wide"], [output], name=f"{output}.narrow", to=HALF))
    graph = editor.finish()
    onnx.checker.check_model(graph)
    return graph


def _in_float32(editor: GraphEditor) -> list[onnx.NodeProto]:
    """Return the nodes of RMSNorms from the square to the root: no other part of a graph has a power."""
    nodes: list[onnx.NodeProto] = []
    for square in [node for node in editor.nodes if node.op_type == "Pow"]:
        chain: list[onnx.NodeProto | None] = [square]
        while chain[-1] is not None and chain[-1].op_type != "Sqrt":
            chain.append(editor.only_consumer(chain[-1].output[0]))
        nodes += [node for node in chain if node is not None]
    return nodes


def _to_fp16(array: np.ndarray, name: str) -> onnx.TensorProto:
    if not np.abs(array).max(initial=0) <= LARGEST_FP16:
        raise ModelError(
            f"the weights '{name}' exceed {LARGEST_FP16:g}, the largest number of float16",
            "keep them in fp32, or quantize to bf16 or int8",
        )
    return numpy_helper.from_array(array.astype(np.float16), name)


def check_fp16_range(model: onnx.ModelProto, data: Encoded, examples: int = 64) -> None:
    """Check on some texts that every value inside a float graph fits float16.

    ONNX Runtime's CPU kernels do not show it: they compute in float32, and most casts between them cancel out.

    Raises:
        ModelError: a value exceeds the range of float16.
    """
    wide = {name for node in _in_float32(GraphEditor(model)) for name in node.output}
    names = [name for node in model.graph.node for name in node.output if name and name not in wide]
    session = open_session(expose_values(model, names).SerializeToString(), None, "cpu", {})
    sample = subsample(data, examples)
    for positions in evaluation_batches(sample.lengths, examples, BATCH_TOKENS):
        batch = sample.batch(positions)
        for name, value in zip(names, run_arrays(session, names, batch), strict=True):
            if value.dtype == np.float32 and value.size and not np.abs(value).max() <= LARGEST_FP16:
                raise ModelError(
                    f"{name} reaches {np.abs(value).max():g}, beyond {LARGEST_FP16:g}, the largest number of float16",
                    "use --method bf16, or int8",
                )
