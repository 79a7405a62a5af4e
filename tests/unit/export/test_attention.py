"""Every form of a graph computes the same, for every family and shape."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest

from compress.core.errors import UsageError
from compress.export.attention import GraphForm
from compress.export.builder import IR_VERSIONS, MICROSOFT
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.models.adapters import add_adapters
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from tests import tiny
from tests.pairwise import pairwise

FORMS = [
    GraphForm(attention, qkv, scale, opset)  # pyright: ignore[reportArgumentType]
    for attention, qkv, scale in itertools.product(("plain", "mha", "onnx"), ("separate", "packed"), ("folded", "scores"))
    for opset in ([23] if attention == "onnx" else [20])
] + [GraphForm(opset=17), GraphForm("mha", "packed", opset=17), GraphForm(opset=21), GraphForm(opset=23)]
ALL = list(range(tiny.FFN))
SHAPES: dict[str, list[Kept]] = {
    "dense": [],
    "uneven heads": [Kept([0, 3], [1]), Kept([2], ALL), Kept([0, 1, 3], [5, 6])],
    "gone sublayers": [Kept([], ALL), Kept([1, 2], []), Kept([], [])],
    "no heads at all": [Kept([], [3]), Kept([], []), Kept([], [5])],
}


def logits(graph: onnx.ModelProto, batch: dict[str, np.ndarray]) -> np.ndarray:
    """Run a graph."""
    return session_forward(open_session(graph.SerializeToString(), 1, "cpu", {}))(batch)


def model_of(family: str, target: Any, shape: str, adapted: bool) -> Any:
    """A tiny model of a shape, with adapters of large weights where they are asked for."""
    model = tiny.make_model(family, target=target)
    if SHAPES[shape]:
        slice_model(model, SHAPES[shape])
    if adapted:
        add_adapters(model, 4)
        for name, parameter in model.named_parameters():
            if "adapter" in name:
                parameter.data.normal_(std=0.3)
    return model.eval()


CASES = [  # target, shape, with adapters
    ("class", "dense", False),
    ("class", "uneven heads", True),
    ("span", "uneven heads", False),
    ("class", "gone sublayers", False),
    ("tags", "gone sublayers", True),
    ("class", "no heads at all", False),
]
FORMS_OF: dict[tuple[str, int], list[GraphForm]] = {}  # each family and each case meets every form
for _family, _case, _form in pairwise(tiny.FAMILIES, range(len(CASES)), FORMS):
    FORMS_OF.setdefault((_family, _case), []).append(_form)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("family", "case"), FORMS_OF)
def test_all_forms_give_the_models_logits(family: str, case: int) -> None:
    model = model_of(family, *CASES[case])
    batch = tiny.encoded(family).batch(range(6))
    expected = torch_forward(model)(batch)
    for form in FORMS_OF[family, case]:
        np.testing.assert_allclose(logits(build_graph(model, form), batch), expected, rtol=0, atol=1e-4, err_msg=str(form))


def test_the_forms_are_different_graphs() -> None:
    model = tiny.make_model()
    graphs = [build_graph(model, form) for form in FORMS]
    assert len({graph.SerializeToString() for graph in graphs}) == len(FORMS)
    for form, graph in zip(FORMS, graphs, strict=True):
        operators = [node.op_type for node in graph.graph.node]
        assert operators.count("MultiHeadAttention") == (tiny.LAYERS if form.attention == "mha" else 0)
        assert operators.count("Attention") == (tiny.LAYERS if form.attention == "onnx" else 0)
        assert operators.count("Softmax") == (tiny.LAYERS if form.attention == "plain" else 0)
        assert operators.count("Split") == (tiny.LAYERS if form.qkv == "packed" else 0)
        imports = {entry.domain: entry.version for entry in graph.opset_import}
        assert imports[""] == form.opset
        assert (MICROSOFT in imports) == (form.attention == "mha")
        assert graph.ir_version == IR_VERSIONS[form.opset]


def test_every_layer_names_its_own_heads() -> None:
    model = model_of("bert", "class", "uneven heads", adapted=False)
    for attention, attribute in (("mha", "num_heads"), ("onnx", "q_num_heads")):
        graph = build_graph(model, GraphForm(attention, opset=23))  # pyright: ignore[reportArgumentType]
        found = [entry.i for node in graph.graph.node for entry in node.attribute if entry.name == attribute]
        assert found == [2, 1, 3]


@pytest.mark.parametrize("kind", ["gelu", "gelu_new"])
def test_gelu_is_spelled_out_where_the_opset_has_none(kind: str) -> None:
    model = tiny.make_model(hidden_act=kind)
    graph = build_graph(model, GraphForm(opset=17))
    assert {"Erf", "Tanh"} & {node.op_type for node in graph.graph.node}
    assert "Gelu" not in {node.op_type for node in graph.graph.node}
    batch = tiny.encoded().batch(range(6))
    np.testing.assert_allclose(logits(graph, batch), torch_forward(model)(batch), rtol=0, atol=1e-4)


def test_what_an_opset_does_not_have_is_refused() -> None:
    with pytest.raises(UsageError, match="opset 20 has no Attention") as caught:
        GraphForm("onnx")
    assert "--opset 23" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="opset 9 is not supported"):
        GraphForm(opset=9)
