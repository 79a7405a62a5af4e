"""Write the self-attention of an int8 graph as one operator, ONNX Runtime's com.microsoft.QAttention.

It multiplies the rows by the weights of query, key and value in int8, and computes scores, softmax and the product with the values in
float, as the separate operators do. Of a pruned layer with few heads most of the time is between the matmuls: fifteen operators, seven
of which only reshape or transpose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from compress.export.builder import MICROSOFT
from compress.export.graph_editing import GraphEditor, attribute_values, has_subgraphs

SWAPPED, KEYS = [0, 2, 1, 3], [0, 2, 3, 1]  # (batch, tokens, heads, size) with heads before tokens; and also with size before tokens
OPERATOR = "QAttention"


@dataclass(frozen=True)
class _Linear:
    """An int8 matmul with a bias.

    Attributes:
        rows: names of the uint8 rows, their scale and their zero point.
        codes: int8 weights, (in, out).
        scales: of the weights, (out,).
        bias: (out,).
    """

    rows: tuple[str, str, str]
    codes: np.ndarray
    scales: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class _Attention:
    """The attention of a layer in the form `plain` of [export/attention.py](../export/attention.py).

    Attributes:
        projections: of query, key and value: three, or one of all.
        heads: of the layer.
        scale: of the scores.
        ends: the value that holds (batch, tokens).
        mask: what is 1 at tokens and 0 at padding, and what is added to the scores of padding.
        merge: the Reshape after it, to rows of (heads * size).
    """

    projections: list[_Linear]
    heads: int
    scale: float
    ends: str
    mask: tuple[str, float]
    merge: onnx.NodeProto


def fuse_attention(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return a copy of an int8 graph with every self-attention that QAttention can compute as one operator; None if there is none.

    Layers that compute the first token only, relative positions, rotary positions and int8 activations around 0 stay as they are.

    Args:
        model: of `dynamic_graph` or `static_graph`.
    """
    if has_subgraphs(model):
        return None
    editor = GraphEditor(model)
    inputs = {entry.name for entry in model.graph.input}
    attentions = [attention for node in editor.nodes if node.op_type == "Softmax" and (attention := _attention(editor, node, inputs))]
    if not attentions:
        return None
    for attention in attentions:
        _fuse(editor, attention)
    editor.require_domain(MICROSOFT, 1)
    return editor.finish(sort=True)


def _attention(editor: GraphEditor, softmax: onnx.NodeProto, inputs: set[str]) -> _Attention | None:
    """Return the attention around a Softmax; None if it is another one."""
    masked = editor.producer(softmax.input[0], "Add")
    mixed = editor.only_consumer(softmax.output[0], "MatMul")
    if masked is None or mixed is None or mixed.input[0] != softmax.output[0]:
        return None
    mask, scores, scale = _padding(editor, masked.input[1], inputs), editor.producer(masked.input[0], "MatMul", "Mul"), 1.0
    if scores is not None and scores.op_type == "Mul":
        factor = editor.constant(scores.input[1])
        scores, scale = editor.producer(scores.input[0], "MatMul"), float(factor) if factor is not None and factor.size == 1 else 0.0
    tokens = editor.only_consumer(mixed.output[0], "Transpose")
    merge = None if tokens is None or _order(tokens) != SWAPPED else editor.only_consumer(tokens.output[0], "Reshape")
    if mask is None or scores is None or not scale or merge is None:
        return None
    expected = (scores.input[0], SWAPPED), (scores.input[1], KEYS), (mixed.input[1], SWAPPED)
    splits = [_split_of(editor, value, order) for value, order in expected]
    parts = [split[0] for split in splits if split]
    shapes = {split[1] for split in splits if split}
    if len(parts) < len(expected) or len(shapes) > 1:
        return None
    shape = editor.producer(shapes.pop(), "Concat")
    tail = None if shape is None or len(shape.input) != 2 else editor.constant(shape.input[1])  # heads and size
    projections = _projections(editor, parts)
    if shape is None or tail is None or tail.shape != (2,) or not projections:
        return None
    return _Attention(projections, int(tail[0]), scale, shape.input[0], mask, merge)


def _order(transpose: onnx.NodeProto) -> object:
    return attribute_values(transpose).get("perm")


def _split_of(editor: GraphEditor, value: str, order: list[int]) -> tuple[str, str] | None:
    """Return the rows whose heads `value` holds, and the shape that they were split to; None if it is something else."""
    transpose = editor.producer(value, "Transpose")
    split = None if transpose is None or _order(transpose) != order else editor.producer(transpose.input[0], "Reshape")
    return None if split is None else (split.input[0], split.input[1])


def _padding(editor: GraphEditor, value: str, inputs: set[str]) -> tuple[str, float] | None:
    """Return the mask that `(1 - mask) * penalty` was computed from, and the penalty; None if it is another value."""
    lifted = editor.producer(value, "Unsqueeze")
    scaled = None if lifted is None else editor.producer(lifted.input[0], "Mul")
    absent = None if scaled is None else editor.producer(scaled.input[0], "Sub")
    cast = None if absent is None else editor.producer(absent.input[1], "Cast")
    if scaled is None or absent is None or cast is None:
        return None
    of_kept = editor.producer(cast.input[0], "Cast")  # of a mask that is no input: where tokens were dropped
    if cast.input[0] not in inputs and (of_kept is None or attribute_values(of_kept).get("to") != onnx.TensorProto.INT64):
        return None
    one, penalty = editor.constant(absent.input[0]), editor.constant(scaled.input[1])
    if one is None or penalty is None or one.size != 1 or penalty.size != 1 or float(one) != 1.0:
        return None
    return cast.input[0], float(penalty)


def _projections(editor: GraphEditor, parts: list[str]) -> list[_Linear] | None:
    """Return the int8 matmuls of query, key and value, or the one whose output is split into them; None without such."""
    split = editor.producer(parts[0], "Split")
    if split is not None:
        sizes = editor.constant(split.input[1])
        if list(split.output) != parts or sizes is None or len(set(sizes.tolist())) > 1:
            return None
        parts = [split.input[0]]
    linears = [linear for part in parts if (linear := _linear(editor, part)) is not None]
    same_rows = len({linear.rows for linear in linears}) == 1 and len({linear.codes.shape for linear in linears}) == 1
    return linears if same_rows and len(linears) == len(parts) else None


def _linear(editor: GraphEditor, value: str) -> _Linear | None:
    """Return the int8 matmul with a bias that computes a value; None if something else does."""
    node = editor.producer(value, "Gemm", "Add")
    if node is None or len(node.input) < 2:
        return None
    if node.op_type == "Gemm":
        return _static_linear(editor, node.input[0], node.input[1], _dequantized(editor, node.input[2]) if len(node.input) > 2 else None)
    bias, product = editor.constant(node.input[1]), editor.producer(node.input[0], "Mul", "MatMul")
    if product is not None and product.op_type == "MatMul":
        return _static_linear(editor, product.input[0], product.input[1], bias)
    return None if product is None or bias is None else _dynamic_linear(editor, product, bias)


def _static_linear(editor: GraphEditor, rows: str, weight: str, bias: np.ndarray | None) -> _Linear | None:
    """Return the matmul of rows by a weight that are both dequantized before it."""
    rounded, constant = editor.producer(rows, "DequantizeLinear"), editor.producer(weight, "DequantizeLinear")
    if rounded is None or constant is None or bias is None or len(rounded.input) < 3:
        return None
    codes, scales, zero = editor.constant(constant.input[0]), editor.constant(constant.input[1]), editor.constant(rounded.input[2])
    if codes is None or scales is None or zero is None or zero.dtype != np.uint8:
        return None
    return _Linear((rounded.input[0], rounded.input[1], rounded.input[2]), codes, scales, bias)


def _dequantized(editor: GraphEditor, value: str) -> np.ndarray | None:
    """Return a bias: a constant, or int32 codes that are multiplied by their scales."""
    node = editor.producer(value, "DequantizeLinear")
    if node is None:
        return editor.constant(value)
    codes, scales = editor.constant(node.input[0]), editor.constant(node.input[1])
    return None if codes is None or scales is None else (codes.astype(np.float64) * scales).astype(np.float32)


def _dynamic_linear(editor: GraphEditor, product: onnx.NodeProto, bias: np.ndarray) -> _Linear | None:
    """Return the matmul `(x_q w_q) * (s_x s_w)` of `dynamic_graph`."""
    cast, units = editor.producer(product.input[0], "Cast"), editor.producer(product.input[1], "Mul")
    matmul = None if cast is None else editor.producer(cast.input[0], "MatMulInteger")
    if matmul is None or units is None or len(matmul.input) < 4:
        return None
    codes, scales = editor.constant(matmul.input[1]), editor.constant(units.input[1])
    if codes is None or scales is None:
        return None
    return _Linear((matmul.input[0], units.input[0], matmul.input[2]), codes, scales, bias)


def _fuse(editor: GraphEditor, attention: _Attention) -> None:
    """Let a QAttention compute what the Reshape after an attention reads."""
    first, name = attention.projections[0], attention.merge.output[0]
    codes, scales, bias = (
        np.concatenate([getattr(linear, part) for linear in attention.projections], axis=-1) for part in ("codes", "scales", "bias")
    )
    hidden, mask, rows = len(codes), f"{attention.mask[0]}.int32", f"{first.rows[0]}.texts"
    tail, texts = editor.add_constant(np.array([hidden], dtype=np.int64), f"texts.{hidden}.tail"), f"{attention.ends}.{hidden}"
    prepared = [
        helper.make_node("Cast", [attention.mask[0]], [mask], name=mask, to=onnx.TensorProto.INT32),
        helper.make_node("Concat", [attention.ends, tail], [texts], name=texts, axis=0),
        helper.make_node("Reshape", [first.rows[0], texts], [rows], name=rows),
    ]
    known = {node.name for node in editor.nodes}
    editor.nodes += [node for node in prepared if node.name not in known]
    constants = {
        "codes": codes,
        "bias": bias.astype(np.float32),
        "scale": scales.astype(np.float32),
        "zero": np.array(0, dtype=np.int8),
    }
    weights = {part: editor.add_constant(array, f"{name}.qkv.{part}") for part, array in constants.items()}
    operands = [rows, weights["codes"], weights["bias"], first.rows[1], weights["scale"], mask, first.rows[2], weights["zero"]]
    settings = {"num_heads": attention.heads, "scale": attention.scale, "mask_filter_value": attention.mask[1]}
    editor.nodes.append(helper.make_node(OPERATOR, operands, [f"{name}.texts"], name=f"{name}.texts", domain=MICROSOFT, **settings))
    attention.merge.input[0] = f"{name}.texts"
