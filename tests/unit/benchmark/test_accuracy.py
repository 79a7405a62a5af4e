"""The stage `eval`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.benchmark import accuracy, statistics
from compress.benchmark.accuracy import compare, metric_interval, run, score_rows
from compress.benchmark.statistics import mcnemar_p, wilson_interval
from compress.core.errors import DataError
from compress.data.metrics import METRICS
from compress.data.presets import resolve
from compress.data.task import Task
from compress.export import write_artifact
from compress.export.graph import build_graph
from compress.inference.forward import open_forward
from compress.inference.kept_outputs import keeping_outputs
from compress.settings import EvalSettings
from compress.stage import ERRORS_FILE, Inputs
from tests import tiny

Maker = Callable[..., Path]
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 300)
GOOD, BAD = np.where(RNG.random(300) < 0.1, 1 - LABELS, LABELS), np.where(RNG.random(300) < 0.3, 1 - LABELS, LABELS)


def rows(name: str, answers: np.ndarray) -> np.ndarray:
    """The metric's rows for `LABELS`."""
    return METRICS[name].rows(LABELS, answers, ["no", "yes"])


def test_accuracy_has_wilsons_interval() -> None:
    right = int((GOOD == LABELS).sum())
    assert metric_interval("accuracy", rows("accuracy", GOOD)) == list(wilson_interval(right, 300))


@pytest.mark.parametrize("name", ["f1", "macro_f1", "matthews"])
def test_other_metrics_have_the_bootstraps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 100)  # enough to tell
    low, high = metric_interval(name, rows(name, GOOD))
    assert low < METRICS[name](LABELS, GOOD) < high
    assert metric_interval(name, rows(name, GOOD)) == [low, high]


@pytest.mark.parametrize(("name", "test"), [("accuracy", "McNemar"), ("f1", "paired bootstrap")])
def test_a_model_compared_with_itself_differs_by_nothing(name: str, test: str) -> None:
    result = compare(name, rows(name, GOOD), rows(name, GOOD))
    assert result == {"metric": name, "delta": 0.0, "ci95": [0.0, 0.0], "p_value": 1.0, "test": test}


@pytest.mark.parametrize("name", ["accuracy", "f1"])
def test_a_worse_model_is_worse_for_sure(name: str) -> None:
    result = compare(name, rows(name, GOOD), rows(name, BAD))
    low, high = result["ci95"]
    assert low < result["delta"] < high < 0
    assert result["p_value"] < 0.01
    better = compare(name, rows(name, BAD), rows(name, GOOD))
    assert better["delta"] == pytest.approx(-result["delta"])
    assert better["ci95"] == pytest.approx([-high, -low], abs=0.02)


def test_accuracy_is_compared_by_mcnemar_on_the_same_examples() -> None:
    result = compare("accuracy", rows("accuracy", GOOD), rows("accuracy", BAD))
    assert result["p_value"] == mcnemar_p(GOOD == LABELS, BAD == LABELS)
    assert result["delta"] == pytest.approx((BAD == LABELS).mean() - (GOOD == LABELS).mean())


def test_pairing_narrows_the_interval() -> None:
    """A model that differs on three examples: paired, the difference is known far better than either accuracy."""
    near = GOOD.copy()
    near[:3] = 1 - near[:3]
    low, high = compare("accuracy", rows("accuracy", GOOD), rows("accuracy", near))["ci95"]
    alone = metric_interval("accuracy", rows("accuracy", GOOD))
    assert high - low < 0.5 * (alone[1] - alone[0])


def test_the_document_has_every_metric_and_a_comparison_only_against_a_first() -> None:
    first = score_rows(["accuracy", "f1"], [rows("accuracy", GOOD), rows("f1", GOOD)], None)
    assert set(first) == {"metrics", "ci95"}
    assert list(first["metrics"]) == list(first["ci95"]) == ["accuracy", "f1"]
    second = score_rows(["f1", "accuracy"], [rows("f1", BAD), rows("accuracy", BAD)], [rows("f1", GOOD), rows("accuracy", GOOD)])
    assert second["vs_first"]["metric"] == "f1"


def evaluate(sources: dict[str, Path], document: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Run the stage."""
    with tempfile.TemporaryDirectory() as folder:
        result = run(Inputs(sources, 0, Task(resolve(document))), EvalSettings(**settings), Path(folder))
        lines = (Path(folder) / ERRORS_FILE).read_text(encoding="utf-8").splitlines()
    return result | {"listed": [json.loads(line) for line in lines]}


def test_checkpoints_and_artifacts_are_paired(checkpoint: Maker, tiny_task: dict[str, Any], family: str, tmp_path: Path) -> None:
    write_artifact(build_graph(tiny.make_model(family)), checkpoint(family), tmp_path)
    document = evaluate({"a": checkpoint(family), "b": tmp_path}, tiny_task, batch_size=5)
    first, second = document["results"]
    assert (document["task"], document["split"], document["n"], document["main_metric"]) == ("tiny", "test", 24, "accuracy")
    assert [first["model"], second["model"]] == ["a", "b"]
    assert first["metrics"] == second["metrics"]
    assert "vs_first" not in first
    assert second["vs_first"] == {"metric": "accuracy", "delta": 0.0, "ci95": [0.0, 0.0], "p_value": 1.0, "test": "McNemar"}
    assert document["metrics"] == {"a": first["metrics"], "b": second["metrics"]}
    json.dumps(document)


def test_a_search_predicts_with_its_baseline_once(checkpoint: Maker, tiny_task: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def counted(folder: Path, *args: Any, **options: Any) -> Any:
        opened.append(folder)
        return open_forward(folder, *args, **options)

    monkeypatch.setattr(accuracy, "open_forward", counted)
    expected = evaluate({"a": checkpoint(), "b": checkpoint("distilbert")}, tiny_task)
    with keeping_outputs():
        for _ in range(2):
            assert evaluate({"a": checkpoint(), "b": checkpoint("distilbert")}, tiny_task) == expected
        evaluate({"a": checkpoint()}, tiny_task, split="validation")  # other data
        evaluate({"a": checkpoint("distilbert")}, tiny_task)  # another model
    bert, distilbert = checkpoint(), checkpoint("distilbert")
    assert opened == [bert, distilbert, bert, distilbert, distilbert, bert, distilbert]


def test_predictions_are_those_of_the_model_by_hand(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    from compress.data.input_spec import InputSpec
    from compress.inference.forward import torch_forward
    from compress.models.inputs import encode_for

    examples = Task(resolve(tiny_task)).split("validation")
    data = encode_for(checkpoint(), examples, InputSpec(max_length=32))
    forward = torch_forward(tiny.make_model())
    right = [forward(data.batch([number]))[0].argmax() == label for number, label in enumerate(examples.labels)]
    document = evaluate({"a": checkpoint()}, tiny_task, split="validation")
    assert document["results"][0]["metrics"]["accuracy"] == pytest.approx(np.mean(right))


def test_models_with_classes_in_another_order_are_matched_by_name(
    checkpoint: Maker, own_checkpoint: Maker, tiny_task: dict[str, Any]
) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    other = own_checkpoint()
    state, order = load_file(other / "model.safetensors"), [1, 2, 0]
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = torch.cat([state[name][order], state[name][:1] * 0 - 50])  # and a class that the task lacks
    save_file(state, other / "model.safetensors", metadata={"format": "pt"})
    names = [*(tiny.LABELS[number] for number in order), "more"]
    tiny.edit_config(other, id2label=dict(enumerate(names)), label2id={name: number for number, name in enumerate(names)})
    document = evaluate({"a": checkpoint(), "b": other}, tiny_task)
    assert document["results"][1]["vs_first"]["p_value"] == 1.0
    assert document["results"][0]["metrics"] == document["results"][1]["metrics"]


def test_a_model_of_another_task(checkpoint: Maker, own_checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="b does not know the label 'animal'"):
        evaluate({"a": checkpoint(), "b": own_checkpoint(labels=["x", "y", "z"])}, tiny_task)


def test_a_split_that_is_not_there(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    document = {key: value for key, value in tiny_task.items() if key != "test"}
    with pytest.raises(DataError, match="no test split"):
        evaluate({"a": checkpoint()}, document, split="test")
    assert evaluate({"a": checkpoint()}, document)["split"] == "validation"


def test_errors_and_classes_agree_with_the_metric(checkpoint: Maker, own_checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    document = evaluate({"a": checkpoint(), "b": own_checkpoint(seed=1)}, tiny_task)
    first = document["results"][0]
    confusion = np.array(first["confusion"])
    assert confusion.sum() == document["n"] == sum(row["n"] for row in first["per_class"])
    assert np.trace(confusion) / confusion.sum() == pytest.approx(first["metrics"]["accuracy"])
    for number, row in enumerate(first["per_class"]):
        assert row["recall"] == pytest.approx(confusion[number, number] / confusion[number].sum())
        if row["precision"] is not None:
            assert row["precision"] == pytest.approx(confusion[number, number] / confusion[:, number].sum())
    listed = document["listed"]
    for entry in document["results"]:
        wrong = sum(entry["model"] in error["wrong"] for error in listed)
        assert 1 - wrong / document["n"] == pytest.approx(entry["metrics"]["accuracy"])
    disputed = [error["disagree"] for error in listed]
    assert disputed == sorted(disputed, reverse=True)
    assert document["errors"] == {"n": len(listed), "disagreements": sum(disputed)}
    assert all(error["expected"] in tiny.LABELS and set(error["predictions"]) == {"a", "b"} for error in listed)
