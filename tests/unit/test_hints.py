"""Hints are followed literally: every `compress` command that a message of the package names is run, and works.

A command with placeholders (MODEL, T, DIR) is run with a real model, task and folder in their places.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from compress.cli.main import main
from compress.core.errors import CompressError
from compress.inference.artifact import load_onnx
from compress.inference.predictor import open_predictor
from tests import tiny

PACKAGE = Path(__file__).parents[2] / "compress"
ERRORS = {error.__name__ for error in [CompressError, *CompressError.__subclasses__()]}
COMMAND = re.compile(r"\bcompress((?: (?:[a-z]+\b|--[a-z][a-z-]*|-o|MODEL|T\b|DIR|[A-Z]{2,}))+)")
VERBS = {
    "bench",
    "distill",
    "eval",
    "export",
    "factorize",
    "finetune",
    "predict",
    "prune",
    "quantize",
    "recipes",
    "run",
    "share",
    "sweep",
    "tasks",
}


def hints() -> list[tuple[str, str]]:
    """Return (place, text) of every constant string of a call that makes one of our errors, in files that name a command."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)) if COMMAND.search(source) else ():
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in ERRORS:
                strings = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
                found += [(f"{path.relative_to(PACKAGE)}:{node.lineno}", text) for text in strings]
    return found


@cache
def commands() -> list[tuple[str, str]]:
    """Return (place, command) of every command in a hint, each command once."""
    found: dict[str, str] = {}
    for place, text in hints():
        for match in COMMAND.finditer(text):
            words = match[1].split()
            if words[0] in VERBS and (len(words) > 1):
                found.setdefault(" ".join(words), place)
    return [(place, command) for command, place in found.items()]


def run(command: str, values: dict[str, str]) -> int | str | None:
    """Run a command as the shell would, its placeholders replaced, and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(["--quiet", *(values.get(word, word) for word in command.split())])
    return ended.value.code


@pytest.fixture
def values(tmp_path: Path, tiny_task: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *args: None)
    Path("tiny.yaml").write_text(yaml.safe_dump(tiny_task), encoding="utf-8")
    return {
        "MODEL": str(tiny.write_checkpoint(tmp_path / "model")),
        "T": "tiny.yaml",
        "DIR": str(tmp_path / "output"),
        "NAME": "demo",
        "FILE": str(tmp_path / "mine.yaml"),
    }


def test_hints_are_found() -> None:
    assert {"export MODEL -o DIR", "finetune MODEL --task T -o DIR", "recipes list", "tasks list"} <= {command for _, command in commands()}


@pytest.mark.parametrize(("place", "command"), commands(), ids=lambda value: str(value).replace("/", "."))
def test_a_command_of_a_hint_works(place: str, command: str, values: dict[str, str]) -> None:
    assert run(command, values) == 0, f"{place}: {command}"


def test_the_run_after_the_hint_succeeds(values: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(CompressError) as caught:
        load_onnx(values["MODEL"])
    assert run((caught.value.hint or "").partition("compress ")[2], values) == 0
    assert load_onnx(values["DIR"])("the red dog").label
    encoder = values | {"MODEL": str(tiny.write_encoder(tmp_path / "encoder")), "DIR": str(tmp_path / "tuned")}
    with pytest.raises(CompressError) as caught:
        open_predictor(encoder["MODEL"])
    assert run((caught.value.hint or "").partition("compress ")[2], encoder) == 0
    assert open_predictor(encoder["DIR"])(["the red dog"])
