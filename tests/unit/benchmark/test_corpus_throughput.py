"""How fast a corpus is encoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.benchmark import corpus_throughput as module
from compress.benchmark.corpus_throughput import CorpusRunner, corpus_groups, throughput_ratio, time_corpus
from compress.benchmark.latency import run
from compress.data.examples import Examples
from compress.data.presets import resolve
from compress.data.task import Task
from compress.settings import BenchSettings
from compress.stage import Inputs
from tests import tiny
from tests.unit.data.retrieval_files import write_lines

pytestmark = pytest.mark.usefixtures("few_resamples")


def write_corpus(folder: Path, documents: int = 40) -> dict[str, Any]:
    (folder / "qrels").mkdir(parents=True)
    texts = [{"_id": f"d{number}", "text": "dog " * (1 + number % 20)} for number in range(documents)]
    write_lines(folder / "corpus.jsonl", texts)
    write_lines(folder / "queries.jsonl", [{"_id": "q", "text": "the dog"}])
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td1\t1\n", encoding="utf-8")
    return {"kind": "sentence-embedding", "beir": str(folder)}


def test_documents_are_grouped_by_length_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GROUP", 16)
    groups = corpus_groups(Task(resolve(write_corpus(tmp_path / "beir"))), 0)
    assert [len(group) for group in groups] == [16, 16, 8]
    lengths = [len(text) for group in groups for (text,) in group.texts]
    assert lengths == sorted(lengths)
    monkeypatch.setattr(module, "MAX_TEXTS", 10)
    assert [len(group) for group in corpus_groups(Task(resolve({"kind": "sentence-embedding", "beir": str(tmp_path / "beir")})), 0)] == [10]


def test_the_two_texts_of_a_pair_are_counted_one_by_one(tmp_path: Path) -> None:
    groups = corpus_groups(Task(resolve(tiny.write_scored_pairs(tmp_path / "pairs", validation=7))), 0)
    assert sum(map(len, groups)) == 14
    assert all(len(text) == 1 for group in groups for text in group.texts)


class Clock:
    """A runner that takes the same time for every text."""

    def __init__(self, seconds: float) -> None:
        self.of_text, self.seen = seconds, 0

    def seconds(self, texts: Examples) -> float:
        self.seen += len(texts)
        return self.of_text * len(texts)


def test_every_runner_encodes_the_same_groups() -> None:
    groups = [Examples([("a",)] * size, np.zeros(size)) for size in (4, 4, 2)]
    runners: Any = {"slow": Clock(2.0), "fast": Clock(0.5)}
    timed, slow, fast = time_corpus(runners, groups, 60, np.random.default_rng(0))
    assert sorted(timed.tolist()) == [0, 1, 2]
    assert slow.sum() == 20
    np.testing.assert_allclose(slow / fast, 4)
    assert {runner.seen for runner in runners.values()} == {14}  # the first group twice: it warms up
    ratio, (low, high) = throughput_ratio(slow, fast)
    assert ratio == low == high == pytest.approx(4)


def test_time_is_limited_but_not_below_five_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [Examples([("a",)], np.zeros(1)) for _ in range(9)]
    runners: Any = {"only": Clock(1.0)}
    timed, _ = time_corpus(runners, groups, -1, np.random.default_rng(0))
    assert len(timed) == 5


def test_batches_of_an_artifact_are_bounded() -> None:
    sizes: list[tuple[int, ...]] = []

    class Recorder:
        def prepare(self, batch: Any) -> Any:
            return batch

        def seconds(self, prepared: Any) -> float:
            sizes.append(prepared["input_ids"].shape)
            return 0.0

    def encode(texts: Examples) -> Any:
        return tiny.encoded("bert", len(texts))

    assert CorpusRunner(encode, Recorder(), None).seconds(Examples([("a",)] * 6, np.zeros(6))) > 0
    assert [rows for rows, _ in sizes] == [6]
    sizes.clear()
    CorpusRunner(encode, Recorder(), 1).seconds(Examples([("a",)] * 6, np.zeros(6)))
    assert [rows for rows, _ in sizes] == [1] * 6


def test_bench_measures_the_corpus_and_passes_the_pooling_on(tmp_path: Path) -> None:
    task = Task(resolve({**write_corpus(tmp_path / "beir"), "pooling": "max"}))
    folder = tiny.write_encoder(tmp_path / "model")
    settings = BenchSettings(rounds=5, seconds=0.1, memory=False, seq_len=[4], task_lengths=True, corpus=True)
    document = run(Inputs({"a": folder, "b": folder}, 0, task), settings, tmp_path)
    assert "corpus" in document
    first, second = document["corpus"]
    assert first["speedup"] == {"vs": "a", "ratio": 1.0, "ci95": [1.0, 1.0]}
    assert first["texts"] == second["texts"] == 40
    assert first["tokens"] == pytest.approx(2 + np.mean([1 + number % 20 for number in range(40)]), abs=0.06)
    assert second["texts_per_s"] > 0
