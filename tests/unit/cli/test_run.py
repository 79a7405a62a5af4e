"""`compress run`: what it prints if a stage ends the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.cli.main import main
from compress.core.errors import GateMissed

GATE = "the accuracy budget was missed"


def missed(*_: object) -> None:
    raise GateMissed(GATE)


def test_a_gate_that_a_stage_misses_is_the_error_also_without_a_summary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("signal.signal", lambda *args: None)
    monkeypatch.setattr("compress.recipe.run.run_recipe", missed)
    with pytest.raises(SystemExit) as caught:
        main(["run", "demo", "-o", str(tmp_path / "run")])
    assert caught.value.code == 6
    assert GATE in capsys.readouterr().err
