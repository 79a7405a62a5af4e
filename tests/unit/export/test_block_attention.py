"""Attention in parts: the same numbers at every length, and scores that do not grow with its square where there is a window."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from compress.core.errors import UsageError
from compress.export import block_attention
from compress.export.attention import GraphForm
from compress.export.block_attention import heads_at_once
from compress.export.graph import build_graph
from compress.export.graph_editing import expose_values
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, run_arrays, session_forward
from compress.prune.search import Kept
from compress.prune.surgery import slice_model
from compress.settings import ExportSettings
from compress.stage import Inputs
from tests import tiny
from tests.unit.models.edge_batches import assert_same

BLOCKS, OLD = GraphForm("blocks"), GraphForm("blocks", "packed", "scores", 17)
CUT = [Kept([0, 2, 3], [1, 5]), Kept([], [0]), Kept([3], [])]


def onnx_forward(graph: onnx.ModelProto) -> Any:
    return session_forward(open_session(graph.SerializeToString(), 1, "cpu", {}))


@pytest.mark.parametrize(
    ("target", "changes"),
    [("class", {}), ("tags", {"local_attention": 3}), ("span", {"local_attention": 64}), ("class", {"classifier_pooling": "mean"})],
    ids=str,
)
def test_windows(target: Any, changes: dict[str, Any]) -> None:
    model = tiny.make_model(
        "modernbert", target=target, layer_types=["sliding_attention", "full_attention", "sliding_attention"], **changes
    )
    assert_same("modernbert", torch_forward(model), *(onnx_forward(build_graph(model, form)) for form in (BLOCKS, OLD)))
    slice_model(model, CUT)
    assert_same("modernbert", torch_forward(model), onnx_forward(build_graph(model, BLOCKS)))


@pytest.mark.parametrize("family", ["bert", "eurobert", "nomic_bert"])
def test_a_few_heads_at_a_time(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_attention, "SCORES_BYTES", 3 * 4 * tiny.POSITIONS**2)
    model = tiny.make_model(family, target="tags")
    graph = build_graph(model, BLOCKS)
    assert "layer.0.attention.1.scores" in {node.name for node in graph.graph.node}
    assert_same(family, torch_forward(model), onnx_forward(graph))
    slice_model(model, CUT)
    assert_same(family, torch_forward(model), onnx_forward(build_graph(model, BLOCKS)))


def test_heads_that_fit_the_budget() -> None:
    assert [heads_at_once(length) for length in (512, 2048, 8192, 1 << 20)] == [512, 32, 2, 1]


def test_scores_within_a_window_grow_with_the_length() -> None:
    graph = build_graph(tiny.make_model("modernbert", target="tags"), BLOCKS)
    session = open_session(expose_values(graph, ["layer.1.attention.scores"]).SerializeToString(), 1, "cpu", {})
    sizes = []
    for length in (64, 128):
        ids = np.full((1, length), 9)
        (scores,) = run_arrays(session, ["layer.1.attention.scores"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        sizes.append(scores.size)
    assert sizes == [tiny.HEADS * length * 3 * block_attention.SMALLEST for length in (64, 128)]


@pytest.mark.parametrize("family", ["mpnet", "deberta-v2"])
def test_positions_in_the_scores_are_refused(family: str) -> None:
    with pytest.raises(UsageError, match="no form in blocks"):
        build_graph(tiny.make_model(family), BLOCKS)


@pytest.mark.parametrize(("longest", "form"), [(1024, "blocks"), (512, "plain")])
def test_long_texts_are_exported_in_parts(longest: int, form: str, tmp_path: Path) -> None:
    source = tiny.write_checkpoint(tmp_path / "model", "modernbert", max_position_embeddings=longest)
    (tmp_path / "graph").mkdir()
    run = importlib.import_module("compress.export").run
    document = run(Inputs({"model": source}), ExportSettings.model_validate({}), tmp_path / "graph")
    assert document["form"]["attention"] == form
