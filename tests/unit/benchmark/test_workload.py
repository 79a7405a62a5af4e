"""The inputs of a cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from compress.benchmark.grid import Candidate, Cell
from compress.benchmark.microbenchmark import random_batch
from compress.benchmark.runners import ClockRunner, TokenizingRunner
from compress.benchmark.workload import CONTROL, DISTINCT_BATCHES, PADDED, pad_batch, random_workload, sample_texts, task_workload
from compress.data.presets import resolve
from compress.data.task import Task
from compress.settings import BenchSettings
from tests import tiny

Maker = Callable[..., Path]


def test_padding_adds_masked_tokens_only() -> None:
    batch = random_batch(np.random.default_rng(0), 50, 2, 3)
    wide = pad_batch(batch, 5, 7)
    assert {array.shape for array in wide.values()} == {(2, 5)}
    assert (wide["input_ids"][:, 3:] == 7).all()
    assert not wide["attention_mask"][:, 3:].any()
    assert pad_batch(batch, 2, 7)["input_ids"].shape == (2, 3)


def test_all_candidates_run_the_same_random_tokens() -> None:
    candidates = [Candidate(name, Path(), "pytorch", "fp32", size) for name, size in (("a", 50), ("b", 20))]
    runners: dict[str, Any] = {name: ClockRunner(lambda batch: None) for name in "ab"}
    workload = random_workload(candidates, runners, Cell(1, 3, 7), np.random.default_rng(0))
    assert workload.tokens == 7
    assert workload.runners[CONTROL] is runners["a"]
    (batch,) = workload.batches["a"]
    assert batch["input_ids"].shape == (3, 7)
    assert batch["input_ids"].max() < 20  # a vocabulary that both have
    assert all(batches[0] is batch for batches in workload.batches.values())


def test_a_batch_of_an_embedder_has_as_many_texts_as_it_says(tmp_path: Path) -> None:
    """The task has pairs of texts, and each text is an input of its own."""
    task, settings = Task(resolve(tiny.write_scored_pairs(tmp_path / "pairs"))), BenchSettings(batch_size=[3])
    candidate = Candidate("a", tiny.write_embedder(tmp_path / "model"), "pytorch", "fp32", len(tiny.vocabulary()))
    runners: dict[str, Any] = {"a": ClockRunner(lambda batch: None)}
    workload = task_workload([candidate], runners, Cell(1, 3, None), task, sample_texts(task, settings), tokenize=False)
    assert {len(batch["input_ids"]) for batch in workload.batches["a"]} == {3}  # pyright: ignore[reportIndexIssue]


def test_the_tasks_texts_are_padded_to_the_longest_of_a_batch(checkpoint: Maker, tiny_task: dict[str, Any]) -> None:
    task, settings = Task(resolve(tiny_task)), BenchSettings(batch_size=[2])
    candidates = [Candidate(name, checkpoint(), "pytorch", "fp32", len(tiny.vocabulary())) for name in "ab"]
    runners: dict[str, Any] = {name: ClockRunner(lambda batch: None) for name in "ab"}
    texts = sample_texts(task, settings)
    workload = task_workload(candidates, runners, Cell(1, 2, None), task, texts, tokenize=False)
    assert set(workload.batches) == {"a", "b", CONTROL, PADDED}
    assert len(workload.batches["a"]) == DISTINCT_BATCHES
    for batch, padded in zip(workload.batches["b"], workload.batches[PADDED], strict=True):
        assert batch["attention_mask"].sum(1).max() == batch["input_ids"].shape[1]
        assert padded["input_ids"].shape[1] == task.spec.max_length
        assert padded["attention_mask"].sum() == batch["attention_mask"].sum()
    tokenizing = task_workload(candidates, runners, Cell(1, 2, None), task, texts, tokenize=True)
    assert PADDED not in tokenizing.batches
    assert all(isinstance(runner, TokenizingRunner) for runner in tokenizing.runners.values())
