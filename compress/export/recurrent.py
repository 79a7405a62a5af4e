"""The encoder of a BiLSTM in a graph: one LSTM operator reads the tokens of a batch in both directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from compress.export.builder import RowGraph
from compress.export.weights import LinearWeights, array_of
from compress.models.layers import find_submodule
from compress.models.types import TransformersModel

if TYPE_CHECKING:
    from torch import nn

GATES = (0, 3, 1, 2)  # PyTorch's rows are input, forget, cell, output; ONNX's input, output, forget, cell


def lstm_rows(graph: RowGraph, model: TransformersModel, every_token: bool) -> str:
    """Add the hidden layer; returns (batch, ffn) of texts, or (batch * sequence, ffn) of every token.

    The LSTM stops at the length of each text, so padding is never read.

    Args:
        graph: that gets the nodes.
        model: a BiLSTM.
        every_token: return every token.
    """
    encoder = find_submodule(model, "bilstm")
    units = encoder.lstm.hidden_size
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


def lstm_weights(lstm: nn.LSTM) -> dict[str, np.ndarray]:
    """Return the weights of a bidirectional LSTM in the layout of the ONNX operator: both directions, its order of gates.

    Returns:
        `input` (2, 4 units, width), `recurrent` (2, 4 units, units), `bias` (2, 8 units).
    """

    def both(name: str) -> np.ndarray:
        directions = [array_of(getattr(lstm, f"{name}_l0{direction}")) for direction in ("", "_reverse")]
        return np.stack([np.concatenate([np.split(array, len(GATES))[gate] for gate in GATES]) for array in directions])

    return {"input": both("weight_ih"), "recurrent": both("weight_hh"), "bias": np.concatenate([both("bias_ih"), both("bias_hh")], axis=1)}
