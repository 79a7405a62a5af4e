"""The matrix of position biases that the graph makes of distances, entry by entry."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from compress.export.builder import RowGraph
from compress.export.graph import build_graph
from compress.export.positions import position_bias
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny

LONGEST, HEADS = 40, 3


def test_every_entry_is_the_bias_of_its_distance_plus_the_mask() -> None:
    by_distance = np.random.default_rng(0).normal(size=(HEADS, 2 * LONGEST)).astype(np.float32)
    graph = RowGraph()
    as_float = graph.node("Cast", ["attention_mask"], "float", to=onnx.TensorProto.FLOAT)
    mask = graph.node("Unsqueeze", [as_float, graph.integers([1, 2], "axes")], "mask")
    kept = {"all": (0, 1, 2), "some": (2, 0)}
    outputs = {}
    for name, heads in kept.items():
        for first in (False, True):
            assert position_bias(graph, by_distance, heads, mask, first) == position_bias(graph, by_distance, heads, mask, first)
            found = position_bias(graph, by_distance, heads, mask, first)
            outputs[f"{name}.{first}"] = (found, ["batch", len(heads), 1 if first else "sequence", "sequence"])
    session = InferenceSession(graph.model(["input_ids", "attention_mask"], outputs).SerializeToString())
    for length in (1, 2, 3, 17, LONGEST):
        added = np.random.default_rng(length).integers(0, 5, (2, length))
        results = session.run(list(outputs), {"input_ids": np.zeros((2, length), dtype=np.int64), "attention_mask": added})
        positions = np.arange(length)
        for name, result in zip(outputs, results, strict=True):
            part, first = name.split(".")
            matrix = by_distance[list(kept[part])][:, positions[None] - positions[:, None]] + added[:, None, None]
            np.testing.assert_array_equal(result, (matrix[:, :, :1] if first == "True" else matrix).astype(np.float32))


def test_layers_of_the_same_heads_share_one_bias() -> None:
    model = tiny.make_model("mpnet", target="tags")
    slice_model(model, [Kept([0, 3], [1]), Kept([0, 3], [1]), Kept([1], [1])])
    names = [node.name for node in build_graph(model).graph.node if node.op_type == "Add" and node.name.startswith("position_bias")]
    assert names == ["position_bias.all.0.3", "position_bias.all.1"]


@pytest.mark.parametrize("target", ["class", "tags"])
def test_openvino_computes_it_too(target: str) -> None:
    openvino = pytest.importorskip("openvino")
    model = tiny.make_model("mpnet", target=target)
    slice_model(model, [Kept([0, 3], [1]), Kept([0, 1, 2, 3], [1]), Kept([1], [1])])
    graph = build_graph(model).SerializeToString()
    batch = {name: array for name, array in tiny.encoded("mpnet").batch(range(12)).items() if name != "token_type_ids"}
    compiled = openvino.Core().compile_model(openvino.Core().read_model(graph), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = InferenceSession(graph).run(None, batch)[0]
    np.testing.assert_allclose(compiled(batch)[0], expected, rtol=0, atol=1e-4)
