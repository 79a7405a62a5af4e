"""Which model a run delivers."""

from __future__ import annotations

from typing import Any

import pytest

from compress.recipe.delivery import delivered_model
from tests.unit.recipe.planning import build

EXPORTS = {"a": {"do": "export", "from": "./m"}, "b": {"do": "export", "from": "./n"}}
BENCH = {"do": "bench", "from": ["b", "a"], "threads": [1], "seq_len": [8]}


@pytest.mark.parametrize(
    ("stages", "manifests", "expected"),
    [
        (EXPORTS, {}, "b"),  # the last one
        ({**EXPORTS, "speed": BENCH}, {}, "a"),  # the last one that was measured
        ({"speed": {**BENCH, "from": ["./m"]}}, {}, None),
        (EXPORTS, {"b": {"models": [{"folder": "2x"}, {"folder": "3x"}]}}, "b/3x"),
        (EXPORTS, {"b": {"models": [{"folder": "seed0"}, {"folder": "seed1"}], "chosen": {"best": "seed0"}}}, "b/best"),
    ],
)
def test_the_model_that_is_delivered(stages: dict[str, Any], manifests: dict[str, Any], expected: str | None) -> None:
    recipe = build({"schema": 1, "name": "x", "stages": stages})
    assert delivered_model(recipe, {**{name: {} for name in stages}, **manifests}) == expected
