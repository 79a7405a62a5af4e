"""Quantization-aware distillation: what it writes is what its int8 graph computes, and every other verb knows it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from compress.core.errors import UsageError
from compress.distill import student_training
from compress.inference.artifact import OnnxModel
from compress.inference.batches import run_batches
from compress.inference.forward import open_forward, torch_forward
from compress.models.checkpoint import load_model
from compress.models.config import read_config
from compress.models.int8_ranges import RANGES_KEY, affine, recorded_ranges
from compress.models.weights_file import check_weights
from compress.training import resume
from compress.training import run as finetune
from tests import tiny
from tests.unit.distill.helpers import inputs, run
from tests.unit.quantize.stage import run as quantize

Maker = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, checkpoint: Maker, tiny_task: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    """A student that was trained with the rounding of int8 (shared: read it only), and the document of its stage."""
    folder = tmp_path_factory.mktemp("trained") / "student"
    return folder, run(inputs(checkpoint(), "layers=2", tiny_task), folder, quantize="int8", epochs=3)


def test_the_checkpoint_is_an_ordinary_one_with_ranges(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, document = trained
    assert set(document["metrics"]["validation"]) == {"n", "accuracy", "before", "float"}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert len(recorded_ranges(config)) == 2 * 6 + 2
    check_weights(folder, read_config(folder))
    model = load_model(folder)
    assert not any("rounding" in name for name in model.state_dict())
    import transformers

    plain = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    data = tiny.encoded()
    np.testing.assert_array_equal(run_batches(torch_forward(model), data), run_batches(torch_forward(plain), data))


@pytest.mark.parametrize("through_graph", [False, True])
def test_its_int8_graph_has_its_ranges_and_computes_its_numbers(
    trained: tuple[Path, dict[str, Any]], through_graph: bool, tmp_path: Path
) -> None:
    """No texts are needed, and none are calibrated on, also after an export."""
    import importlib

    from compress.settings import ExportSettings
    from compress.stage import Inputs

    source = shutil.copytree(trained[0], tmp_path / "copied")
    if through_graph:
        (tmp_path / "graph").mkdir()
        settings = ExportSettings.model_validate({"attention": "mha"})
        importlib.import_module("compress.export").run(Inputs({"model": source}), settings, tmp_path / "graph")
        source = tmp_path / "graph"
    made = quantize(source, tmp_path / "int8", method="static")
    assert made["calibration"] == {"method": "trained", "examples": 0, "tokens": 0}
    graph = onnx.load(str(tmp_path / "int8" / "model.onnx"))
    scales = {tensor.name: float(numpy_helper.to_array(tensor)) for tensor in graph.graph.initializer if not tensor.dims}
    expected = {float(affine(limits, symmetric=False)[0]) for limits in recorded_ranges(read_config(trained[0])).values()}
    assert {value for name, value in scales.items() if name.endswith(".scale")} == expected
    data = tiny.encoded(count=40)
    exact, rounded = (run_batches(open_forward(trained[0], rounded=flag), data) for flag in (False, True))
    int8 = run_batches(OnnxModel(tmp_path / "int8").logits, data)
    assert np.abs(int8 - rounded).mean() < 0.1 * np.abs(int8 - exact).mean()


def test_auto_without_data_is_static(trained: tuple[Path, dict[str, Any]], tiny_task: dict[str, Any], tmp_path: Path) -> None:
    assert quantize(trained[0], tmp_path / "alone", method="auto")["method"] == "static"
    assert {entry["method"] for entry in quantize(trained[0], tmp_path / "task", tiny_task, method="auto")["candidates"]} == {
        "dynamic",
        "static",
    }
    assert quantize(trained[0], tmp_path / "smooth", tiny_task, method="smooth")["calibration"]["examples"] > 0


def test_a_calibration_that_nobody_needs_is_named(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize(trained[0], tmp_path / "out", method="static", calib_samples=8, target="arm64")
    told = capsys.readouterr().err
    assert "ignored: --calib-samples; the model has the ranges that it was trained with" in told
    assert "arm64 has symmetric ranges" in told


def test_scores_after_training_are_those_of_eval(trained: tuple[Path, dict[str, Any]], tiny_task: dict[str, Any]) -> None:
    from compress.data.presets import resolve
    from compress.data.task import Task
    from compress.inference.evaluator import Evaluator

    folder, document = trained
    evaluator = Evaluator(Task(resolve(tiny_task)), "validation", folder, np.arange(3))
    for key, rounded in (("accuracy", True), ("float", False)):
        assert evaluator.score(open_forward(folder, rounded=rounded))["accuracy"] == document["metrics"]["validation"][key]


def test_finetune_drops_the_ranges(
    trained: tuple[Path, dict[str, Any]], tiny_task: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from compress.data.presets import resolve
    from compress.data.task import Task
    from compress.settings import FinetuneSettings
    from compress.stage import Inputs

    (tmp_path / "out").mkdir()
    settings = FinetuneSettings.model_validate({"epochs": 1, "precision": "fp32", "device": "cpu"})
    finetune(Inputs({"model": trained[0]}, 0, Task(resolve(tiny_task))), settings, tmp_path / "out")
    assert RANGES_KEY not in json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert "ranges of the model are dropped: finetune changes" in capsys.readouterr().err


def test_a_student_of_such_a_teacher_has_no_ranges(trained: tuple[Path, dict[str, Any]], tiny_task: dict[str, Any], tmp_path: Path) -> None:
    run(inputs(trained[0], "layers=1", tiny_task), tmp_path / "out")
    assert RANGES_KEY not in json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("target", ["tags", "span", "value", "labels"])
def test_every_kind_of_head_is_trained(target: Any, tmp_path: Path) -> None:
    task = tiny.write_kind(tmp_path / "task", target)
    teacher = tiny.write_checkpoint(tmp_path / "teacher", target=target, labels=[*tiny.LABELS, "other"] if target == "tags" else None)
    run(inputs(teacher, "layers=1", task), tmp_path / "out", quantize="int8", max_examples=16)
    made = quantize(tmp_path / "out", tmp_path / "int8", task, method="static")
    assert made["calibration"]["method"] == "trained"


@pytest.mark.parametrize("family", tiny.OTHER_BLOCKS)
def test_families_with_blocks_of_their_own_are_trained(checkpoint: Maker, tiny_task: dict[str, Any], family: str, tmp_path: Path) -> None:
    run(inputs(checkpoint(family), "layers=2", tiny_task), tmp_path / "out", quantize="int8", max_examples=32)
    quantize(tmp_path / "out", tmp_path / "int8", method="static")
    data = tiny.encoded(family, 24)
    exact, rounded = (run_batches(open_forward(tmp_path / "out", rounded=flag), data) for flag in (False, True))
    int8 = run_batches(OnnxModel(tmp_path / "int8").logits, data)
    assert np.abs(int8 - rounded).mean() < 0.1 * np.abs(int8 - exact).mean()


class Killed(Exception):
    """Stands for a signal."""


def test_a_killed_training_resumes_to_the_same_weights_and_ranges(
    trained: tuple[Path, dict[str, Any]], checkpoint: Maker, tiny_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from compress.training import loop

    monkeypatch.setattr(resume, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(resume, "MAX_SHARE", 1e9)
    stage = replace(inputs(checkpoint(), "layers=2", tiny_task), resume=tmp_path / "state")
    step, steps = loop._Loop._step, 0

    def killed(self: Any, *arguments: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 6:
            raise Killed
        step(self, *arguments)

    monkeypatch.setattr(loop._Loop, "_step", killed)
    with pytest.raises(Killed):
        run(stage, tmp_path / "killed", quantize="int8", epochs=3)
    torch.manual_seed(99)
    run(stage, tmp_path / "again", quantize="int8", epochs=3)
    assert steps == 6 + 3 * 4 - 5
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (trained[0] / "model.safetensors").read_bytes()
    assert read_config(tmp_path / "again") == read_config(trained[0])


def test_students_without_static_ranges_are_refused(
    checkpoint: Maker, own_checkpoint: Maker, tiny_task: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="only dynamic int8"):
        run(inputs(checkpoint(), "lstm=8", tiny_task), tmp_path / "lstm", quantize="int8")
    with pytest.raises(UsageError, match="only dynamic int8"):
        run(inputs(checkpoint(), tiny.write_static(tmp_path / "static"), tiny_task), tmp_path / "out", quantize="int8")
    for settings, message in (({"quantize": "dynamic"}, "int8"), ({"quantize": "int8", "method": ["theseus"]}, "theseus")):
        with pytest.raises(ValueError, match=message):
            run(inputs(checkpoint(), "layers=1", tiny_task), tmp_path / f"out-{message}", **settings)


def test_ranges_are_learned(
    trained: tuple[Path, dict[str, Any]], checkpoint: Maker, tiny_task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = student_training.start_rounding
    calibrated: dict[str, Any] = {}

    def recorded(*arguments: Any) -> Any:
        rounding = start(*arguments)
        calibrated.update(rounding.ranges())
        return rounding

    monkeypatch.setattr(student_training, "start_rounding", recorded)
    run(inputs(checkpoint(), "layers=2", tiny_task), tmp_path / "out", quantize="int8", epochs=3)
    after = recorded_ranges(read_config(tmp_path / "out"))
    assert after == recorded_ranges(read_config(trained[0]))
    assert all(after[name] != limits for name, limits in calibrated.items())
