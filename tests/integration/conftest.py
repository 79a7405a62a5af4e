"""The real MiniLM and a slice of BBC News, taken through every verb by the real command line, once per session."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compress.data import bbc_news
from tests.command_server import CommandServer, Outcome

sys.path.insert(0, str(Path(__file__).parents[2] / "eval"))  # no installed package: its runner adds its own folder, too
SLICE = {"train": 240, "validation": 80, "test": 80}
SHORT = ("--max-length", "32")


Command = Callable[..., Outcome]


def command_environment(home: Path) -> dict[str, str]:
    """The environment of the commands under test: a cache of their own; one thread each, as several tests run side by side."""
    return os.environ | {"COMPRESS_CACHE": str(home / "cache")}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything of the session is written."""
    return tmp_path_factory.mktemp("integration")


@pytest.fixture(scope="session")
def compress(home: Path) -> Iterator[Command]:
    """Run a command in the session's folder; `stdin` is text, `check` demands exit code 0, `fresh` a process that imports everything."""
    environment = command_environment(home)
    server = CommandServer(environment)

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

    yield call
    server.close()


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
    return compress("--json", "prune", "teacher", *task, "--target-flops", "0.5", "--calib-samples", "64", "-o", "slim").document


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
