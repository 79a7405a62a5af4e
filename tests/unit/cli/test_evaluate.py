"""The tables that `eval` prints."""

from __future__ import annotations

from typing import Any

import pytest

from compress.cli.evaluate import _data_name, show_classes, show_evaluation
from compress.results.objects import EvalResult

Printed = pytest.CaptureFixture[str]
CLASSES = [
    {"label": "no", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "n": 2},
    {"label": "yes", "precision": None, "recall": 0.0, "f1": None, "n": 2},
]


def result(**changes: Any) -> EvalResult:
    first = {"model": "teacher", "metrics": {"accuracy": 0.9}, "ci95": {"accuracy": [0.8, 0.95]}}
    second = {**first, "model": "int8", "vs_first": {"delta": -0.01, "ci95": [-0.03, 0.01], "p_value": 0.25}}
    errors = {"n": 5, "disagreements": 3}
    return EvalResult({"task": "tiny", "split": "test", "n": 40, "results": [first, second], "errors": errors, **changes})


def test_scores_are_in_points_with_the_comparison(capsys: Printed) -> None:
    show_evaluation(result())
    out = capsys.readouterr().out
    for text in ("tiny, n = 40", "90.00 [80.0, 95.0]", "-1.00 [-3.0, +1.0]", "0.250"):
        assert text in out
    assert "5 examples are misclassified by some model; the models disagree on 3 of 40" in out


@pytest.mark.parametrize("metric", ["ndcg@10", "cosine"])
def test_rankings_and_vectors_are_not_misclassified(metric: str, capsys: Printed) -> None:
    entries: Any = [{**entry, "metrics": {metric: 0.9}, "ci95": {metric: [0.8, 0.95]}} for entry in result().results]
    show_evaluation(result(results=entries))
    out = capsys.readouterr().out
    assert "90.00 [80.0, 95.0]" in out
    assert "misclassified" not in out


def test_the_old_index_has_a_column_and_a_sentence(capsys: Printed) -> None:
    change = {"metric": "accuracy", "delta": -0.01, "ci95": [-0.03, 0.01], "p_value": 0.25}
    index = {"of": "teacher", "valid": True, "metrics": {"accuracy": 0.89}, "ci95": {"accuracy": [0.8, 0.95]}, "vs_first": change}
    first, second = result().results
    other: Any = {**second, "model": "narrow", "index": {"of": "teacher", "valid": False}}
    show_evaluation(result(results=[first, {**second, "index": index}, other]))
    out = capsys.readouterr().out
    for text in (
        "old index",
        "89.00 [80.0, 95.0]",
        "other size",
        "An index of teacher stays valid for int8",
        "Encode the documents again for narrow",
    ):
        assert text in out


def test_one_model_disagrees_with_nobody(capsys: Printed) -> None:
    show_evaluation(result(results=result().results[:1]))
    assert "disagree" not in capsys.readouterr().out


def test_a_class_without_a_score_has_a_dash(capsys: Printed) -> None:
    entry: Any = {"model": "teacher", "per_class": CLASSES, "confusion": [[2, 0], [2, 0]]}
    show_classes(entry)
    out = capsys.readouterr().out
    assert "teacher: confusion" in out
    assert next(line.split() for line in out.splitlines() if line.strip().startswith("yes")) == ["yes", "-", "0.0", "-", "2"]


def test_a_task_without_classes_says_so(capsys: Printed) -> None:
    entry: Any = {"model": "teacher"}
    show_classes(entry)
    assert capsys.readouterr().out == "teacher: tasks of this kind have no classes\n"


def test_data_are_called_by_the_task_or_by_their_file() -> None:
    assert _data_name("sst2", result()) == "tiny, test"
    assert _data_name({"test": "data/mine.csv"}, result()) == "mine.csv"
    assert _data_name({"test": "data/mine.csv", "name": "tiny"}, result()) == "tiny, test"
