"""Which layers are drawn, and over which."""

from __future__ import annotations

from compress.report.charts import draw_charts
from compress.report.layer_shapes import layer_shapes
from compress.report.run_folder import Run
from tests.unit.report.documents import COMMON, CUT, DENSE, GRAPH, SLIM


def test_layers_of_a_shallower_student_are_not_drawn_over_its_teacher() -> None:
    student = {**COMMON, "verb": "distill", "inputs": {"slim": "0"}, "layers": CUT[:3]}
    kept, before = layer_shapes(Run({}, {"slim": SLIM, "student": student}, {}, ""))
    assert (kept, before) == (CUT[:3], None)
    kept, before = layer_shapes(Run({}, {"slim": SLIM, "graph": GRAPH}, {}, ""))
    assert (kept, before) == (CUT, DENSE)
    ranks = {
        **COMMON,
        "verb": "factorize",
        "inputs": {},
        "layers_before": DENSE,
        "layers": [{**layer, "ranks": {"query": 4}} for layer in DENSE],
    }
    assert layer_shapes(Run({}, {"small": ranks}, {}, "")) == ([], None)  # heads and neurons are what they were
    fewer = {**ranks, "layers": [{**layer, "tokens": 0.5} for layer in DENSE]}
    assert layer_shapes(Run({}, {"small": fewer}, {}, "")) == (fewer["layers"], DENSE)


def test_a_model_outside_of_the_run_is_no_ancestor() -> None:
    graph = {**GRAPH, "inputs": {"./slim": "0"}}
    assert layer_shapes(Run({}, {"slim": SLIM, "graph": graph}, {}, ""))[1] is None


def test_the_share_of_tokens_is_drawn_where_tokens_are_dropped() -> None:
    fewer = [layer if number < 2 else {**layer, "tokens": 0.5} for number, layer in enumerate(DENSE)]
    dropping = Run({}, {"slim": {**COMMON, "verb": "prune", "inputs": {}, "layers_before": DENSE, "layers": fewer}}, {}, "")
    assert "share of tokens" in draw_charts(dropping, [])["tokens"]
    assert "tokens" not in draw_charts(Run({}, {"slim": SLIM}, {}, ""), [])
