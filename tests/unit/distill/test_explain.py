"""What `distill --explain` prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.distill import plan
from compress.settings import DistillSettings
from tests.unit.distill.helpers import inputs

Maker = Callable[..., Path]


def test_the_matches_with_weights_and_projections(tiny_task: dict[str, Any], checkpoint: Maker) -> None:
    settings = DistillSettings.model_validate({"method": ["logits", "hidden:0.5", "relations", "cofi"], "match": "uniform"})
    document = plan(inputs(checkpoint(), "layers=2,hidden=24,heads=2,ffn=40", tiny_task), settings)
    rows = [(row["method"], row["teacher"], row["student"], row["projection"]) for row in document["matches"]]
    assert rows[0] == ("logits", "logits", "logits", None)
    assert ("hidden", "layer 2 (32 wide)", "layer 1 (24 wide)", "24 to 32, learned") in rows
    assert ("relations", "layer 3 (4 heads of 8, as 4 x 8)", "layer 2 (2 heads of 12, as 4 x 6)", None) in rows
    assert sum(row["weight"] for row in document["matches"] if row["method"] == "hidden") == pytest.approx(0.5)
    assert document["student"]["hidden"] == 24


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ({}, [("all", None)]),  # as many as the number of texts asks for
        ({"epochs": 4}, [("all", 4)]),
        ({"hard_weight": 1.0}, [("all", 3)]),
        ({"method": "theseus"}, [("all", 3)]),
        ({"budget": "5m"}, [("all", None)]),
        ({"layer_epochs": 2}, [("layers", 2), ("outputs", None)]),
        ({"layer_epochs": 2, "hard_weight": 1.0}, [("layers", 2), ("outputs", 3)]),
        ({"method": "tinybert"}, [("layers", 10), ("outputs", 3)]),
    ],
    ids=str,
)
def test_the_epochs_are_those_that_are_run(
    settings: dict[str, Any], stages: list[tuple[str, int | None]], tiny_task: dict[str, Any], checkpoint: Maker
) -> None:
    document = plan(inputs(checkpoint(), "layers=2", tiny_task), DistillSettings.model_validate(settings))
    assert [(stage["losses"], stage["epochs"]) for stage in document["stages"]] == stages
