"""Every snippet of docs/python-api.md runs, in order, on tiny models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import compress
from compress.benchmark import static_facts
from tests import tiny

PAGE = Path(compress.__file__).parent.parent / "docs" / "python-api.md"


@pytest.mark.usefixtures("in_this_process")
def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With a tiny encoder and task instead of the real ones; cold starts are not measured."""
    monkeypatch.setattr(static_facts, "measure_cold_start", lambda *_: static_facts.NOT_MEASURED)
    monkeypatch.chdir(tmp_path)
    tiny.write_encoder(tmp_path / "encoder")
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(tiny.write_task(tmp_path / "data")), encoding="utf-8")
    stages = {"student": {"do": "finetune", "from": "model", "epochs": 1}}
    recipe = {"schema": 1, "name": "mine", "model": "./encoder", "task": "task.yaml", "stages": stages}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        code = snippet.replace('"builtin:minilm-l6", "bbc-news"', '"./encoder", "task.yaml"')
        exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 (our own page)
    printed = capsys.readouterr().out
    assert "2 prune: target_flops: should be less than 1, not 2.0" in printed
