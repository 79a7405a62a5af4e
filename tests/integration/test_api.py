"""Every verb by its Python function, on tiny models: what it returns is what docs/json.md promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest

import compress
from compress import api, results
from compress.results import BenchDocument, DistillPlan, EvalDocument, Manifest, PrunePlan, TrainedDocument
from compress.results.runs import Measured
from tests import tiny
from tests.conforms import undocumented

Maker = Callable[..., Path]


class Output(TypedDict):
    """What the Python API adds to a manifest."""

    output: str
    up_to_date: bool


pytestmark = pytest.mark.usefixtures("in_this_process")
FAST: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "fp32", "device": "cpu"}


def test_the_whole_way(tiny_task: dict[str, Any], tmp_path: Path) -> None:
    """Every verb; each result conforms to the types that docs/json.md is written from."""
    source = tiny.write_encoder(tmp_path / "encoder")
    teacher, slim, small, shared, student, graph, int8 = (
        tmp_path / name for name in ("teacher", "slim", "small", "shared", "student", "graph", "int8")
    )
    tuned = compress.finetune(source, tiny_task, teacher, seed=1, **FAST)
    assert (tuned.output, tuned["seed"]) == (str(teacher), 1)
    made = {
        "TrainedDocument": [tuned, compress.distill(teacher, "layers=1", tiny_task, student, **FAST)],
        "PruneDocument": [
            compress.prune(teacher, tiny_task, slim, target_params=0.5, device="cpu"),
            compress.prune(teacher, tiny_task, tmp_path / "vocab", method="vocab"),
        ],
        "FactorizeDocument": [compress.factorize(teacher, tiny_task, small, ratio=0.5, device="cpu")],
        "ShareDocument": [compress.share(teacher, tiny_task, shared, layers=1)],
        "ExportDocument": [compress.export(student, graph, tiny_task)],
        "QuantizeDocument": [compress.quantize(graph, tiny_task, int8)],
    }
    for name, documents in made.items():
        for document in documents:
            assert undocumented(document, Output, Manifest, getattr(results, name)) == [], name
    found = compress.evaluate([teacher, student, int8], tiny_task, split="validation")
    assert [entry["model"] for entry in found.results] == [str(teacher), str(student), str(int8)]
    assert undocumented(found, Measured, EvalDocument) == []
    speed = compress.bench([graph, int8], rounds=5, seq_len=[8], memory=False)
    assert len(speed.results) == 2
    assert undocumented(speed, Measured, BenchDocument) == []
    assert compress.load_model(student).config.num_labels == 3
    assert compress.load_onnx(int8)("the dog").label in tiny.LABELS


def test_several_models_conform_to_the_types(tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    tuned = compress.finetune(checkpoint(), tiny_task, tmp_path / "seeds", **{**FAST, "seeds": [0, 1]})
    assert undocumented(tuned, Output, Manifest, TrainedDocument) == []
    plan = api.plan_distill(checkpoint(), "layers=1", tiny_task, method="hidden")
    assert undocumented(plan, DistillPlan) == []
    plan = api.plan_prune(checkpoint(), tiny_task, target_flops=0.5, device="cpu")
    assert undocumented(plan, PrunePlan) == []
