"""Every verb on every kind of task, through the stages, on tiny models."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compress
from compress.core.errors import CompressError, DataError
from compress.export.graph import build_graph
from compress.inference.forward import torch_forward
from compress.inference.onnx_session import open_session, session_forward
from compress.inference.predictor import open_predictor
from compress.models.checkpoint import load_model, save_model
from compress.prune.search import Kept
from compress.prune.surgery import mask_model, slice_model
from tests import tiny

Maker = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("in_this_process")
KEPT = [Kept([0, 3], [1, 5, 63]), Kept([], [2, 40]), Kept([1], [])]
TARGETS = ["labels", "value", "tags", "span", "mentions"]
MAIN = {"labels": "micro_f1", "value": "spearman", "tags": "accuracy", "span": "squad_f1", "mentions": "gap_f1"}
INPUTS: dict[str, Any] = {
    "labels": ["the dog and the soup", "we"],
    "value": ["the dog and the soup", "we"],
    "tags": ["the dog and the soup", ("my", "zz", "tea")],
    "span": [("where is the soup ?", "the dog and the soup"), ("who ?", "we " * 60)],
    "mentions": [tiny.mention_pair(1), tiny.mention_pair(2)],
}


@pytest.mark.parametrize("target", ["class", *TARGETS])
def test_masked_is_sliced_is_reloaded_is_onnx(family: str, target: Any, tmp_path: Path) -> None:
    """For every head: heads and neurons cut, a layer without heads, one without FFN; token for token the same."""
    model, masked = tiny.make_model(family, target=target), tiny.make_model(family, target=target)
    data = tiny.encoded(family, pairs=target == "span")
    batch = data.batch(range(6))
    real = batch["attention_mask"].astype(bool)
    slice_model(model, KEPT)
    mask_model(masked, KEPT)
    folder = tmp_path / "sliced"
    folder.mkdir()
    tiny.write_tokenizer(tmp_path, family)
    save_model(model, folder, tmp_path)
    expected = torch_forward(model)(batch)
    reloaded = torch_forward(load_model(folder))(batch)
    graph = session_forward(open_session(build_graph(model).SerializeToString(), 1, "cpu", {}))(batch)
    assert expected.ndim == graph.ndim == (3 if target in ("tags", "span", "mentions") else 2)
    where = real if expected.ndim == 3 else slice(None)
    np.testing.assert_array_equal(reloaded, expected)
    np.testing.assert_allclose(torch_forward(masked)(batch)[where], expected[where], atol=1e-4)
    np.testing.assert_allclose(graph[where], expected[where], atol=1e-4)


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    """Every target but one class, which all other tests are about."""
    return request.param


@pytest.mark.parametrize(
    ("target", "family", "method"),
    [
        ("labels", "bert", "auto"),
        ("value", "distilbert", "dynamic"),
        ("tags", "distilbert", "dynamic"),
        ("span", "bert", "dynamic"),
        ("mentions", "roberta", "auto"),
    ],
)
def test_the_whole_way(target: str, family: str, method: Any, tmp_path: Path) -> None:
    """Fine-tune, prune, distill, export, quantize, evaluate and predict; every number is finite, every answer typed."""
    task = tiny.write_kind(tmp_path / "data", target)
    encoder = tiny.write_encoder(tmp_path / "encoder", family)
    made = {name: tmp_path / name for name in ("teacher", "slim", "student", "graph", "int8")}
    tuned = compress.finetune(encoder, task, made["teacher"], epochs=2, batch_size=8, lr=3e-3)
    compress.prune(made["teacher"], task, made["slim"], target_flops=0.5, calib_samples=16)
    distilled = compress.distill(
        made["teacher"], made["slim"], task, made["student"], epochs=1, batch_size=8, augment=int(target != "mentions")
    )
    compress.export(made["student"], made["graph"], task)
    compress.quantize(made["graph"], task, made["int8"], method=method)
    document = compress.evaluate([made["teacher"], made["student"], made["graph"], made["int8"]], task)
    main = document["main_metric"]
    assert main == MAIN[target]
    for entry in document["results"]:
        low, high = entry["ci95"][main]
        assert -1 <= low <= entry["metrics"][main] <= high <= 1
    scores = [entry["metrics"][main] for entry in document["results"]]
    assert scores[1] == scores[2] == distilled["metrics"]["validation"][main]
    assert scores[0] == tuned["metrics"]["validation"][main]
    assert scores[2] == pytest.approx(scores[3], abs=0.3)
    told = {name: open_predictor(made[name])(INPUTS[target]) for name in ("student", "graph")}
    assert len(told["student"]) == 2
    for one, other in zip(told["student"], told["graph"], strict=True):
        assert_same_answer(one, other)


def assert_same_answer(one: Any, other: Any) -> None:
    """Equal words, labels and places; probabilities and values to rounding."""
    if isinstance(one, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same_answer(first, second)
        return
    assert type(one) is type(other)
    for name, value in vars(one).items():
        if isinstance(value, float):
            assert math.isclose(value, getattr(other, name), abs_tol=1e-3)
        elif isinstance(value, dict):
            assert value == pytest.approx(getattr(other, name), abs=1e-3)
        else:
            assert value == getattr(other, name)


def test_tuning_learns(target: str, tmp_path: Path) -> None:
    """More than chance within a few epochs: the labels reach the loss in their own order."""
    task = tiny.write_kind(tmp_path / "data", target, train=120, validation=40)
    encoder = tiny.write_encoder(tmp_path / "encoder")
    chance = {"labels": 0.5, "value": 0.3, "tags": 0.6, "span": 0.1, "mentions": 0.6}[target]
    found = compress.finetune(encoder, task, tmp_path / "out", epochs=8, batch_size=8, lr=3e-3)
    assert found["metrics"]["validation"][MAIN[target]] > chance


@pytest.mark.parametrize("target", ["value", "tags", "span", "mentions"])
def test_a_model_for_another_kind(target: str, checkpoint: Maker, tmp_path: Path) -> None:
    task = tiny.write_kind(tmp_path / "data", target)
    with pytest.raises(DataError, match=r"predicts one class per text, and the task .* needs"):
        compress.evaluate([checkpoint()], task)
    with pytest.raises(CompressError):
        compress.prune(checkpoint(), task, tmp_path / "out", target_flops=0.5)
    assert not (tmp_path / "out").exists()
