"""fp16 graphs: values and weights within the range of the format."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.core.errors import ModelError
from compress.export.graph import build_graph
from compress.export.graph_editing import FLOAT, GraphEditor, expose_values
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, run_arrays, session_forward
from compress.models.checkpoint import load_model
from compress.quantize.bf16 import bf16_graph
from compress.quantize.fp16 import check_fp16_range, fp16_graph
from compress.settings import ExportSettings
from compress.stage import Inputs
from tests import tiny
from tests.unit.quantize import half_precision
from tests.unit.quantize.stage import run

Maker = Callable[..., Path]
export = importlib.import_module("compress.export").run


@pytest.mark.parametrize("where", ["inside", "logits"])
def test_values_beyond_float16_are_refused(own_checkpoint: Maker, where: str, tmp_path: Path) -> None:
    """In the middle of the model, or at its end: ONNX Runtime's CPU kernels alone would not show it."""
    source = own_checkpoint()
    model = load_model(source)
    if where == "inside":
        layer = model.bert.encoder.layer[1]
        layer.intermediate.dense.bias.data[:] = 3e4
        layer.output.dense.weight.data[:] = 1.0
    else:
        model.bert.pooler.dense.bias.data[:] = 5.0
        model.classifier.weight.data[:] = 1e4
    tiny.save_pretrained(model, source)
    (tmp_path / "graph").mkdir()
    export(Inputs({"model": source}), ExportSettings.model_validate({"tolerance": 10.0}), tmp_path / "graph")
    with pytest.raises(ModelError, match=r"(layer\.1\.ffn\.out|classifier) reaches .*, beyond 65504") as caught:
        run(tmp_path / "graph", tmp_path / "out", method="fp16")
    assert "bf16" in (caught.value.hint or "")


def test_a_maximum_over_tokens_fits(tmp_path: Path) -> None:
    """Padding is added a number below every state, which float16 has, too."""
    model = load_model(tiny.write_embedder(tmp_path / "model", pooling=("max",)))
    data = tiny.encoded()
    graph = build_graph(model)
    check_fp16_range(graph, data)
    forward = session_forward(open_session(fp16_graph(graph).SerializeToString(), 1, "cpu", {}))
    np.testing.assert_allclose(forward(data.batch(range(6))), torch_forward(model)(data.batch(range(6))), atol=5e-3)


def test_weights_beyond_float16_are_named() -> None:
    model = tiny.make_model()
    model.bert.encoder.layer[1].intermediate.dense.weight.data[0, 0] = 1e5
    with pytest.raises(ModelError, match=r"'layer\.1\.ffn\.in\.weight' exceed 65504, the largest number of float16") as caught:
        fp16_graph(build_graph(model))
    assert "bf16" in (caught.value.hint or "")
    bf16_graph(build_graph(model))


def test_every_family_gives_nearly_the_same_logits_in_fp16(family: str) -> None:
    half_precision.check_logits(fp16_graph, family, 0.01)


def test_fused_attention_stays_close_in_fp16() -> None:
    half_precision.check_fused_attention(fp16_graph)


@pytest.mark.parametrize("target", ["labels", "value", "tags", "span"])
def test_every_kind_of_output_is_float32_in_fp16(target: str) -> None:
    half_precision.check_output_type(fp16_graph, target)


def test_an_rms_norm_sums_in_float32() -> None:
    """States of 1,000 fit float16, their squares do not."""
    model = tiny.make_model("eurobert")
    model.model.embed_tokens.weight.data.mul_(1000.0)
    graph, data = build_graph(model), tiny.encoded("eurobert")
    check_fp16_range(graph, data)
    half = fp16_graph(graph)
    editor = GraphEditor(half)
    squares = [node for node in half.graph.node if node.op_type == "Pow"]
    assert len(squares) == 2 * tiny.LAYERS + 1
    for node in squares:
        cast = editor.producer(node.input[0], "Cast")
        assert cast is not None
        assert cast.attribute[0].i == FLOAT
    forward = session_forward(open_session(half.SerializeToString(), 1, "cpu", {}))
    np.testing.assert_allclose(forward(data.batch(range(6))), torch_forward(model)(data.batch(range(6))), atol=5e-2)


def test_weights_of_positions_fit_however_long_the_text(tmp_path: Path) -> None:
    """The positions of 361 tokens add up to more than float16 has."""
    model = load_model(tiny.write_embedder(tmp_path / "model", pooling=("weightedmean",)))
    graph, data = expose_values(build_graph(model), ["pooling.weights"]), tiny.encoded()
    vectors, weights = run_arrays(
        open_session(graph.SerializeToString(), 1, "cpu", {}), ["sentence_embedding", "pooling.weights"], data.batch(range(6))
    )
    assert weights.max() == 1.0
    np.testing.assert_allclose(vectors, torch_forward(model)(data.batch(range(6))), atol=1e-5)


@pytest.mark.parametrize("family", ["deberta-v2", "deberta"])
def test_products_with_tables_of_positions_open(family: str) -> None:
    """ONNX Runtime 1.32 ends the process at a product of a transposed value with one of fewer axes, if it inserts casts between them."""
    half_precision.check_logits(fp16_graph, family, 0.03)
