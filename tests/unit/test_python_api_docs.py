"""Every snippet of docs/python-api.md runs, in order, on tiny models."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import compress
from compress.results import objects
from tests import tiny

PAGE = Path(compress.__file__).parent.parent / "docs" / "python-api.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a tiny encoder and task instead of the real ones."""
    monkeypatch.chdir(tmp_path)
    tiny.write_encoder(tmp_path / "encoder")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(tiny.write_task(tmp_path / "data")), encoding="utf-8")
    stages = {"student": {"do": "finetune", "from": "model", "epochs": 1}}
    recipe = {"schema": 1, "name": "mine", "model": "./encoder", "task": "task.yaml", "stages": stages}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        code = snippet.replace('"builtin:minilm-l6", "bbc-news"', '"./encoder", "task.yaml"')
        exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 (our own page)
    printed = capsys.readouterr().out
    assert "2 prune: target_flops: should be less than 1, not 2.0" in printed


@pytest.mark.parametrize("signature", re.findall(r"^\| `(\w+\(.*?\))` \|", TEXT, re.MULTILINE))
def test_signatures_are_those_of_the_functions(signature: str) -> None:
    name, _, arguments = signature.partition("(")
    parameters = inspect.signature(getattr(compress, name)).parameters.values()
    keyword_only = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    shown: list[str] = []
    for parameter in parameters:
        if keyword_only and parameter.name == keyword_only[0]:
            shown.append("*")
        if parameter.kind is parameter.VAR_KEYWORD:
            shown.append(f"**{parameter.name}")
        else:
            shown.append(parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}")
    assert arguments.rstrip(")").replace("=()", "=(") == ", ".join(shown).rstrip(")").replace("=()", "=(")


def test_results_are_named_as_they_are() -> None:
    for name in re.findall(r"`(\w+Result)`", TEXT):
        assert hasattr(objects, name)
