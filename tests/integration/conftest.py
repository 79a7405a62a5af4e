"""The real MiniLM and a slice of BBC News, taken through every verb by the real command line, once per session."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.benchmark.microbenchmark import measure_speedup, median_seconds, random_batch
from compress.benchmark.timing_worker import TimingWorker, open_served
from compress.data import bbc_news
from tests import tiny
from tests.command_server import CommandServer, Outcome

sys.path.insert(0, str(Path(__file__).parents[2] / "eval"))  # no installed package: its runner adds its own folder, too
SLICE = {"train": 160, "validation": 80, "test": 80}
SHORT = ("--max-length", "32")
SLIM = ("--target-flops", "0.5", "--calib-samples", "64", "--steps", "1", "--refit-epochs", "1")


Command = Callable[..., Outcome]


def command_environment(home: Path) -> dict[str, str]:
    """The environment of the commands under test: a cache of their own; one thread each, as several tests run side by side."""
    return os.environ | {"COMPRESS_CACHE": str(home / "cache")}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything of the session is written."""
    return tmp_path_factory.mktemp("integration")


@pytest.fixture(scope="session")
def server(home: Path) -> Iterator[CommandServer]:
    """What forks the processes of commands."""
    server = CommandServer(command_environment(home))
    yield server
    server.close()


@pytest.fixture(scope="session")
def compress(home: Path, server: CommandServer) -> Command:
    """Run a command in the session's folder; `stdin` is text, `check` demands exit code 0, `fresh` a process that imports everything."""
    environment = command_environment(home)

    def call(*arguments: str, stdin: str = "", check: bool = True, fresh: bool = False) -> Outcome:
        if fresh:
            command = [sys.executable, "-m", "compress", *arguments]
            done = subprocess.run(command, cwd=home, env=environment, input=stdin, capture_output=True, text=True, timeout=280)
            outcome = Outcome(done.returncode, done.stdout, done.stderr)
        else:
            outcome = server.run(arguments, home, stdin)
        if check:
            assert outcome.code == 0, f"{arguments}: {outcome.err}"
        return outcome

    return call


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time pruned models in this process: the start of one that only times takes longer than a tiny model's pruning."""

    def request(worker: TimingWorker, asked: dict[str, Any]) -> dict[str, Any]:
        serving, opened = worker.serving, vars(worker).setdefault("opened", {})
        batch = random_batch(np.random.default_rng(serving["seed"]), serving["vocab_size"], serving["batch_size"], serving["seq_len"])
        forward = opened.get(asked["folder"]) or opened.setdefault(asked["folder"], open_served(Path(asked["folder"]), serving))
        if "against" not in asked:
            return {"seconds": median_seconds(forward, batch, 5)}
        ratio, interval = measure_speedup(forward, open_served(Path(asked["against"]), serving), batch, 20)
        return {"speedup": ratio, "interval": interval}

    monkeypatch.setattr(TimingWorker, "_request", request)


@pytest.fixture(scope="session")
def small_minilm(home: Path) -> Path:
    """The first two layers of the real MiniLM, with the tokens of the articles: for what more of both would only repeat."""
    import transformers

    from compress.editing.vocabulary import prune_vocab
    from compress.models.reference import locate

    source, folder = locate("builtin:minilm-l6"), home / "minilm-l2"
    folder.mkdir()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(source, num_hidden_layers=2)
    rows = bbc_news.read_splits()["train"][:300]
    prune_vocab(model, source, [(row["headline"], row["text"][:300]) for row in rows], folder)
    tiny.save_pretrained(model.base_model, folder)
    return folder


@pytest.fixture(scope="session")
def data(home: Path) -> dict[str, str]:
    """A slice of BBC News as CSV files: column names of their own, so that nothing is a preset."""
    rows = bbc_news.read_splits()
    files = {}
    for split, count in SLICE.items():
        path = home / f"{split}.csv"
        step = max(1, len(rows[split]) // count)
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["title", "body", "topic"])
            writer.writerows([row["headline"], row["text"][:300], row["label"]] for row in rows[split][::step][:count])
        files[split] = str(path)
    return files


@pytest.fixture(scope="session")
def task(data: dict[str, str]) -> list[str]:
    """The flags that describe the slice."""
    files = [part for split, path in data.items() for part in (f"--{split}", path)]
    return [*files, "--kind", "text-classification", "--text", "title", "--text", "body", "--label", "topic", *SHORT]


@pytest.fixture(scope="session")
def teacher(compress: Command, task: list[str]) -> dict[str, Any]:
    return compress(
        "--json", "finetune", "builtin:minilm-l6", *task, "--epochs", "3", "--lr", "2e-4", "--batch-size", "16", "-o", "teacher", fresh=True
    ).document


@pytest.fixture(scope="session")
def slim(compress: Command, task: list[str], teacher: dict[str, Any]) -> dict[str, Any]:
    return compress("--json", "prune", "teacher", *task, *SLIM, "-o", "slim").document


@pytest.fixture(scope="session")
def student(compress: Command, task: list[str], slim: dict[str, Any]) -> dict[str, Any]:
    arguments = ["--epochs", "2", "--batch-size", "16", "-o", "student"]
    return compress("--json", "distill", "--teacher", "teacher", "--student", "slim", *task, *arguments).document


@pytest.fixture(scope="session")
def graph(compress: Command, task: list[str], student: dict[str, Any]) -> dict[str, Any]:
    return compress("--json", "export", "student", *task, "-o", "graph").document


@pytest.fixture(scope="session")
def int8(compress: Command, task: list[str], graph: dict[str, Any]) -> dict[str, Any]:
    return compress("--json", "quantize", "graph", *task, "-o", "int8").document
