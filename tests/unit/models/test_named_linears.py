"""Linears by the names of their matmuls: every matmul that int8 rounds is there, with the same weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

from compress.export.graph import build_graph
from compress.export.graph_editing import GraphEditor
from compress.models.named_linears import computes_every_token, named_linears
from compress.quantize.static import quantizable_matmuls
from tests import tiny


def weights_of_matmuls(model: Any) -> dict[str, np.ndarray]:
    graph = build_graph(model)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    return {matmul.node: tensors[matmul.weight] for matmul in quantizable_matmuls(GraphEditor(graph))}


@pytest.mark.parametrize("family", list(tiny.CONFIGS))
def test_the_weights_are_those_of_the_graph(family: str) -> None:
    for target in ("class", "tags"):
        model = tiny.make_model(family, target=target)
        linears = named_linears(model)
        matmuls = weights_of_matmuls(model)
        assert matmuls.keys() - linears.keys() <= ({"classifier"} if (family, target) == ("eurobert", "class") else set())
        for name, weight in matmuls.items():
            if name not in linears:
                continue
            own = model.get_submodule(linears[name].path).weight.detach().numpy().T
            if weight.shape != own.shape:  # keys and values that heads share are computed once
                own = np.unique(own, axis=1)
                weight = np.unique(weight, axis=1)
            factor = weight.ravel()[0] / own.ravel()[0]  # queries are scaled
            np.testing.assert_allclose(weight, own * factor, rtol=1e-5, err_msg=name)


def test_tags_need_every_token_and_classes_the_first() -> None:
    assert computes_every_token(tiny.make_model(target="tags"))
    assert not computes_every_token(tiny.make_model())
    first = {name for name, linear in named_linears(tiny.make_model()).items() if linear.first_only}
    assert first == {f"layer.2.{part}" for part in ("attention.query", "attention.out", "ffn.in", "ffn.out")}
