"""Models that drop tokens in int8: the choice of tokens stays in float."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compress
from compress.export.graph import build_graph
from compress.inference.artifact import OnnxModel
from compress.models.token_reduction import set_token_shares
from compress.quantize.dynamic import dynamic_graph
from compress.quantize.static import static_graph
from tests import tiny
from tests.unit.models.folders import save
from tests.unit.quantize.graphs import ranges_of, run

SHARES = [0.8, 0.6, 0.6]


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
@pytest.mark.parametrize("method", ["dynamic", "static"])
def test_int8_logits_are_near_those_of_floats(family: str, method: str) -> None:
    model = tiny.make_model(family)
    set_token_shares(model, SHARES)
    plain = build_graph(model)
    graph = dynamic_graph(plain, True) if method == "dynamic" else static_graph(plain, ranges_of(plain, family))
    assert [node.op_type for node in graph.graph.node].count("TopK") == 2
    expected, found = run(plain, family), run(graph, family)
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).max()


def test_the_stage_takes_such_an_artifact(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    model = tiny.make_model()
    set_token_shares(model, SHARES)
    save(model, tmp_path / "fewer")
    result = compress.quantize(tmp_path / "fewer", tiny_task, tmp_path / "int8", method="static", max_drop=100)
    assert [layer.get("tokens", 1) for layer in result["layers"]] == SHARES
    logits = OnnxModel(tmp_path / "int8").logits(tiny.encoded().batch(range(4)))
    assert logits.shape == (4, len(tiny.LABELS))
