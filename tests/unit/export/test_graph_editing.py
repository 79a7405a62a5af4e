"""The graph editor: what it finds, that the original stays as it is, and what it keeps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compress.core.errors import ModelError
from compress.export.graph_editing import GraphEditor, check_opset, expose_values, has_subgraphs, name_nodes, values_read


def model_of(*nodes: onnx.NodeProto, output: str = "y") -> onnx.ModelProto:
    """Return a model of (2,) values x -> y with the constants `one` and `two`."""
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])  # noqa: E731
    constants = [numpy_helper.from_array(np.full(2, number, dtype=np.float32), name) for name, number in (("one", 1), ("two", 2))]
    graph = helper.make_graph(nodes, "g", [value("x")], [value(output)], constants, doc_string="kept")
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10, producer_name="test")


ADD = helper.make_node("Add", ["x", "one"], ["sum"], name="add")
MUL = helper.make_node("Mul", ["sum", "two"], ["y"], name="mul")


def run(model: onnx.ModelProto) -> list[float]:
    """Run a model on (1, 2)."""
    import onnxruntime

    onnx.checker.check_model(model, full_check=True)
    return np.asarray(
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": np.array([1, 2], dtype=np.float32)})[0]
    ).tolist()


def test_an_unedited_model_is_the_same() -> None:
    model = model_of(ADD, MUL)
    assert GraphEditor(model).finish().SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_producers_consumers_and_constants() -> None:
    editor = GraphEditor(model_of(ADD, MUL))
    add, mul = editor.nodes
    assert editor.producer("sum") is add
    assert editor.producer("sum", "Mul") is None
    assert editor.producer("x") is None
    assert editor.consumers("sum") == [mul]
    assert editor.only_consumer("sum", "Mul") is mul
    assert editor.only_consumer("sum", "Add") is None
    twice = GraphEditor(model_of(ADD, helper.make_node("Mul", ["sum", "sum"], ["y"], name="square")))
    assert len(twice.consumers("sum")) == 2
    assert twice.only_consumer("sum") is None
    assert editor.array("two").tolist() == [2, 2]
    assert editor.constant("sum") is None


def test_edits_change_the_copy_only_and_drop_what_becomes_unused() -> None:
    model = model_of(ADD, MUL)
    before = model.SerializeToString()
    editor = GraphEditor(model)
    add, mul = editor.nodes
    three = editor.add_constant(np.full(2, 3, dtype=np.float32), "three")
    assert editor.add_constant(np.zeros(2, dtype=np.float32), "three") == three  # the first one stays
    editor.replace(mul, helper.make_node("Sub", ["negated", three], ["y"], name="sub"))
    editor.insert_before(editor.nodes[1], helper.make_node("Neg", ["sum"], ["negated"], name="neg"))
    add.input[1] = three
    edited = editor.finish()
    assert run(edited) == [-7, -8]
    assert [tensor.name for tensor in edited.graph.initializer] == ["three"]
    assert edited.graph.doc_string == "kept"
    assert model.SerializeToString() == before


def test_sorting_orders_nodes_and_drops_those_that_no_output_needs() -> None:
    editor = GraphEditor(model_of(MUL, helper.make_node("Neg", ["x"], ["idle"], name="idle")))
    editor.append("Add", ["x", "one"], "sum", name="late")
    model = editor.finish(sort=True)
    assert [node.name for node in model.graph.node] == ["late", "mul"]
    assert run(model) == [4, 6]


def test_a_domain_is_imported_once() -> None:
    editor = GraphEditor(model_of(ADD, MUL))
    for _ in range(2):
        editor.require_domain("com.microsoft", 1)
    model = editor.finish()
    assert [entry.domain for entry in model.opset_import] == ["", "com.microsoft"]
    again = GraphEditor(model)
    again.require_domain("com.microsoft", 1)
    assert len(again.finish().opset_import) == 2


def test_constants_that_only_a_subgraph_reads_are_kept() -> None:
    branches = [
        helper.make_graph(
            [helper.make_node(op, ["x", name], ["z"], name=op)], op, [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])]
        )
        for op, name in (("Add", "one"), ("Mul", "two"))
    ]
    condition = helper.make_node("Constant", [], ["condition"], value=numpy_helper.from_array(np.array(True)), name="condition")
    choice = helper.make_node("If", ["condition"], ["y"], name="choice", then_branch=branches[0], else_branch=branches[1])
    model = GraphEditor(model_of(condition, choice)).finish()
    assert has_subgraphs(model)
    assert {"one", "two"} <= set(values_read(model.graph.node[1]))
    assert {tensor.name for tensor in model.graph.initializer} == {"one", "two"}
    assert run(model) == [2, 3]


def test_values_inside_become_outputs_once() -> None:
    model = model_of(ADD, MUL)
    exposed = expose_values(model, ["sum", "y"])
    assert [value.name for value in exposed.graph.output] == ["y", "sum"]
    assert [value.name for value in model.graph.output] == ["y"]


def test_nodes_get_unique_names() -> None:
    model = model_of(
        helper.make_node("Add", ["x", "one"], ["sum"], name="same"), helper.make_node("Mul", ["sum", "two"], ["y"], name="same")
    )
    name_nodes(model)
    assert [node.name for node in model.graph.node] == ["same", "Mul.1"]


def test_old_operators_are_refused() -> None:
    check_opset(model_of(ADD, MUL), 20, "a test")
    with pytest.raises(ModelError, match="opset 20, and a test needs 21"):
        check_opset(model_of(ADD, MUL), 21, "a test")
