"""Models that are no plain encoders go every way that they can, on tiny ones: factorized, shared, BiLSTM and static."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compress
from compress.core.errors import UsageError
from compress.inference.predictor import open_predictor
from compress.models.checkpoint import load_model
from compress.models.model_shape import count_params, model_shape
from compress.models.sharing import owners_of
from tests import tiny
from tests.conftest import Maker

FAST: dict[str, Any] = {"epochs": 1, "batch_size": 8, "precision": "fp32", "device": "cpu"}


def check_refused(calls: dict[str, Callable[[], object]], models: str, output: Path) -> dict[str, str]:
    """Check that every verb refuses such models and leaves no output; returns the hint of each."""
    hints = {}
    for verb, call in calls.items():
        with pytest.raises(UsageError, match=f"{verb} does not support {models}") as caught:
            call()
        hints[verb] = caught.value.hint or ""
    assert not output.exists()
    return hints


def test_a_factorized_model_goes_every_way_that_it_can(checkpoint: Maker, tiny_task: Any, tmp_path: Path) -> None:
    """Distilled, exported, quantized and measured; not pruned, factorized again, shared, or given adapters."""
    small = tmp_path / "small"
    made = compress.factorize(
        checkpoint(), tiny_task, small, target_flops=0.7, embedding_rank=12, unlabeled=tiny_task["train"], device="cpu"
    )
    student = compress.distill(checkpoint(), small, tiny_task, tmp_path / "student", **FAST)
    assert student["layers"] == made["layers"]
    assert model_shape(load_model(tmp_path / "student")) == model_shape(load_model(small))
    compress.finetune(small, tiny_task, tmp_path / "tuned", **FAST)
    graph = compress.export(tmp_path / "student", tmp_path / "graph", tiny_task)
    assert graph["metrics"]["max_abs_difference"] < 1e-4
    for method in ("dynamic", "static", "smooth"):
        compress.quantize(tmp_path / "graph", tiny_task, tmp_path / method, method=method)
    names = [tmp_path / name for name in ("student", "graph", "dynamic", "static", "smooth")]
    results = compress.evaluate(names, tiny_task)["results"]
    assert results[0]["metrics"] == results[1]["metrics"]
    refused: dict[str, Callable[[], object]] = {
        "prune": lambda: compress.prune(small, tiny_task, tmp_path / "no", target_flops=0.5, device="cpu"),
        "factorize": lambda: compress.factorize(small, tiny_task, tmp_path / "no", rank=3),
        "share": lambda: compress.share(small, tiny_task, tmp_path / "no", layers=1),
        "finetune --mode lora": lambda: compress.finetune(small, tiny_task, tmp_path / "no", mode="lora", **FAST),
        "finetune --mode adapter": lambda: compress.finetune(small, tiny_task, tmp_path / "no", mode="adapter", **FAST),
    }
    check_refused(refused, "factorized models", tmp_path / "no")


def test_a_shared_model_goes_every_way_that_it_can(checkpoint: Maker, tiny_task: Any, tmp_path: Path) -> None:
    """Distilled, pruned, factorized, tuned in every mode, exported, quantized and measured, and still shared; not shared again."""
    folder, plain = tmp_path / "shared", checkpoint()
    found = compress.share(plain, tiny_task, folder, layers=2, groups="auto", unlabeled=tiny_task["train"], device="cpu")
    assert found["params"] == count_params(load_model(folder)) < found["params_before"] == count_params(load_model(plain))
    assert sorted(number for group in found["groups"] for number in group) == list(range(tiny.LAYERS))
    assert found["metrics"]["validation"].keys() >= {"n", "accuracy", "before"}
    assert (folder / "model.safetensors").stat().st_size < 0.8 * (plain / "model.safetensors").stat().st_size
    compress.distill(plain, folder, tiny_task, tmp_path / "student", **FAST)
    compress.finetune(folder, tiny_task, tmp_path / "tuned", **FAST)
    for name in ("student", "tuned"):
        assert list(owners_of(load_model(tmp_path / name))) == found["shared"]
    graphs = [compress.export(source, tmp_path / f"graph-{source.name}", tiny_task) for source in (plain, tmp_path / "student")]
    assert graphs[1]["size_mb"] < 0.85 * graphs[0]["size_mb"]
    graph = tmp_path / "graph-student"
    for method in ("dynamic", "static"):
        compress.quantize(graph, tiny_task, tmp_path / method, method=method)
    results = compress.evaluate([tmp_path / "student", graph, tmp_path / "dynamic", tmp_path / "static"], tiny_task)["results"]
    assert results[0]["metrics"] == results[1]["metrics"]
    compress.prune(folder, tiny_task, tmp_path / "pruned", target_flops=0.5, refit_epochs=1, device="cpu")
    compress.factorize(folder, tiny_task, tmp_path / "factors", rank=3)
    compress.finetune(folder, tiny_task, tmp_path / "lora", mode="lora", **FAST)
    compress.finetune(folder, tiny_task, tmp_path / "adapter", mode="adapter", **FAST)
    for name in ("pruned", "factors", "lora", "adapter"):
        assert list(owners_of(load_model(tmp_path / name))) == found["shared"]
    refused: dict[str, Callable[[], object]] = {"share": lambda: compress.share(folder, tiny_task, tmp_path / "no", layers=1)}
    check_refused(refused, "models whose layers share weights", tmp_path / "no")


@pytest.mark.parametrize("spec", ["lstm=6,embedding=8,ffn=5", "static=8,bigram=4,buckets=50,ffn=5"])
def test_a_student_without_an_encoder_goes_every_way(spec: str, tiny_task: dict[str, Any], checkpoint: Maker, tmp_path: Path) -> None:
    student, tuned, graph, int8 = (tmp_path / name for name in ("student", "tuned", "graph", "int8"))
    made = compress.distill(checkpoint(), spec, tiny_task, student, epochs=1)
    assert made["plain"] is False
    compress.finetune(student, tiny_task, tuned, epochs=1)
    compress.export(tuned, graph, task=tiny_task)
    compress.quantize(tuned, tiny_task, int8, method="auto")
    evaluation = compress.evaluate([student, tuned, graph, int8], task=tiny_task)
    scores = [entry["metrics"]["accuracy"] for entry in evaluation["results"]]
    assert scores[1] == scores[2]
    timed = compress.bench([tuned, graph, int8], seq_len=[8], rounds=5, memory=False)
    assert len(timed["results"]) == 3
    texts = ["the red dog", "tea"]
    predictions = compress.load_onnx(graph)(texts)
    assert [answer.label for answer in predictions] == [answer.label for answer in open_predictor(tuned)(texts)]
