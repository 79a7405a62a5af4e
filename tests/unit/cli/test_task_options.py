"""The task that options describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from compress.cli import task_options
from compress.cli.main import cli
from compress.core.errors import RecipeError, UsageError
from compress.data.presets import presets, resolve


def task(*arguments: str) -> Any:
    """Return the task that flags of `eval` describe."""
    found = cli.get_command(click.Context(cli), "eval")
    assert found is not None
    values = dict(found.make_context("eval", ["m", *arguments]).params)
    result = task_options.task_of(values)
    assert not {"task", *task_options.TASK_FIELDS} & set(values)
    return result


def test_no_flags_no_task() -> None:
    assert task() is None


def test_a_preset_is_its_name() -> None:
    assert task("--task", "sst2") == "sst2"


def test_flags_describe_local_files() -> None:
    document = task(
        "--kind",
        "text-classification",
        "--train",
        "a.csv",
        "--test",
        "b.csv",
        "--text",
        "x",
        "--text",
        "y",
        "--label",
        "z",
        "--max-length",
        "64",
        "--metric",
        "macro_f1",
        "--metric",
        "accuracy",
    )
    assert document == {
        "kind": "text-classification", "train": "a.csv", "test": "b.csv", "text": ["x", "y"], "label": "z", "max_length": 64,
        "metrics": ["macro_f1", "accuracy"],
    }  # fmt: skip
    assert resolve(document).local_files() == {"train": str(Path("a.csv").absolute()), "test": str(Path("b.csv").absolute())}


def test_the_least_that_describes_a_task() -> None:
    spec = resolve(task("--validation", "a.csv", "--text", "x"))
    assert (spec.label, spec.max_length, spec.metrics, spec.labels) == ("label", 128, ["accuracy"], None)


def test_files_length_and_metrics_adjust_a_preset() -> None:
    spec = resolve(task("--task", "mrpc", "--validation", "a.csv", "--max-length", "32", "--metric", "f1"))
    preset = presets()["mrpc"]
    assert spec.local_files() == {"validation": str(Path("a.csv").absolute())}
    assert (spec.max_length, spec.metrics, spec.hub) == (32, ["f1"], None)
    assert (spec.text, spec.labels, spec.name) == (preset.text, preset.labels, preset.name)
    length = resolve(task("--task", "mrpc", "--max-length", "32"))
    assert length.hub == preset.hub


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "sst2", "--text", "a"], "--text does not go with --task"),
        (["--task", "sst2", "--label", "a"], "--label does not go with --task"),
        (["--task", "sst2", "--kind", "text-classification"], "--kind does not go with --task"),
        (["--text", "a"], "no data file"),
        (["--max-length", "5"], "no data file"),
        (["--test", "a.csv"], "no text column"),
    ],
)
def test_flags_that_do_not_go_together(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        task(*arguments)


def test_an_unknown_metric_is_named() -> None:
    with pytest.raises(click.BadParameter, match="'acuracy' is not one of 'accuracy'"):
        task("--test", "a.csv", "--text", "x", "--metric", "acuracy")
    with pytest.raises(RecipeError, match="'spearman' does not measure text-classification"):
        resolve(task("--test", "a.csv", "--text", "x", "--metric", "spearman"))


def test_an_embedder_and_its_judgements(tmp_path: Path) -> None:
    document = task("--kind", "sentence-embedding", "--beir", str(tmp_path), "--pooling", "cls")
    spec = resolve(document)
    assert (spec.target, spec.metrics[0], spec.pooling, spec.max_length) == ("vector", "ndcg@10", "cls", 512)
    with pytest.raises(UsageError, match="--beir and data files"):
        task("--kind", "sentence-embedding", "--beir", "x", "--train", "a.csv")


def test_texts_alone_and_pairs_have_their_metrics() -> None:
    alone = resolve(task("--kind", "sentence-embedding", "--train", "a.csv", "--text", "x"))
    assert (alone.metrics, alone.label, alone.compares_vectors) == (["cosine"], "x", True)
    pairs = resolve(task("--kind", "sentence-embedding", "--train", "a.csv", "--text", "x", "--text", "y", "--label", "z"))
    assert (pairs.metrics, pairs.label, pairs.compares_vectors) == (["spearman", "pearson"], "z", False)
    ranking = resolve(task("--kind", "text-ranking", "--train", "a.csv", "--text", "x", "--text", "y"))
    assert (ranking.target, ranking.metrics) == ("value", ["spearman", "pearson"])
    with pytest.raises(RecipeError, match="'spearman' does not measure texts alone"):
        resolve(task("--kind", "sentence-embedding", "--train", "a.csv", "--text", "x", "--metric", "spearman"))
    with pytest.raises(RecipeError, match="pooling goes with sentence-embedding"):
        resolve(task("--train", "a.csv", "--text", "x", "--pooling", "mean"))


def test_mention_pairs_need_no_columns() -> None:
    document = task("--kind", "coreference", "--train", "gap-development.tsv")
    assert document == {"kind": "coreference", "train": "gap-development.tsv"}
    spec = resolve(document)
    assert (spec.target, spec.main_metric, spec.max_length) == ("mentions", "gap_f1", 256)
    with pytest.raises(RecipeError, match="coreference reads the columns of GAP"):
        resolve(task("--kind", "coreference", "--train", "a.tsv", "--text", "sentence"))
