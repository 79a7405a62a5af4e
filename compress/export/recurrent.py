"""The part of a BiLSTM's graph that stands before its head: one LSTM operator reads the words of a batch in both directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from compress.export.builder import RowGraph
from compress.export.weights import LinearWeights, array_of

GATES = (0, 3, 1, 2)  # PyTorch's rows are input, forget, cell, output; ONNX's input, output, forget, cell


def lstm_rows(graph: RowGraph, model: Any, every_token: bool) -> str:
    """Return the hidden layer: (batch, ffn) of texts, or (batch * sequence, ffn) of every token.

    The LSTM stops at each text's own length, so what pads behind it is never read.

    Args:
        graph: where the nodes go.
        model: a BiLSTM.
        every_token: which of the two.
    """
    encoder, units = model.bilstm, model.bilstm.lstm.hidden_size
    table = graph.constant(array_of(encoder.embeddings.word_embeddings.weight), "embeddings.word")
    steps = graph.node("Transpose", ["input_ids"], "input_ids.steps", perm=[1, 0])
    words = graph.node("Gather", [table, steps], "embeddings.words")  # (sequence, batch, width)
    counted = graph.node("ReduceSum", ["attention_mask", graph.integers([1], "axis.1")], "lengths.count", keepdims=0)
    lengths = graph.node("Cast", [counted], "lengths", to=onnx.TensorProto.INT32)
    inputs = [words, *(graph.constant(array, f"lstm.{name}") for name, array in lstm_weights(encoder.lstm).items()), lengths]
    outputs = ["lstm.states"] if every_token else ["", "lstm.last"]  # (sequence, 2, batch, units), or (2, batch, units)
    graph.nodes.append(helper.make_node("LSTM", inputs, outputs, name="lstm", hidden_size=units, direction="bidirectional"))
    turned = graph.node("Transpose", outputs[-1:], "lstm.texts", perm=[2, 0, 1, 3] if every_token else [1, 0, 2])
    rows = graph.node("Reshape", [turned, graph.integers([-1, 2 * units], "shape.states")], "lstm.rows")
    return graph.node("Relu", [graph.linear(rows, LinearWeights.of(encoder.dense), "dense")], "dense.relu")


def lstm_weights(lstm: Any) -> dict[str, np.ndarray]:
    """Return a bidirectional LSTM's weights in the operator's layout: both directions, the gates in its order.

    Returns:
        `input` (2, 4 units, width), `recurrent` (2, 4 units, units), `bias` (2, 8 units).
    """

    def both(name: str) -> np.ndarray:
        found = [array_of(getattr(lstm, f"{name}_l0{direction}")) for direction in ("", "_reverse")]
        return np.stack([np.concatenate([np.split(array, len(GATES))[gate] for gate in GATES]) for array in found])

    return {"input": both("weight_ih"), "recurrent": both("weight_hh"), "bias": np.concatenate([both("bias_ih"), both("bias_hh")], axis=1)}
