"""`compress sweep` on tiny models: what it prints for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from compress.cli.main import main
from compress.core.errors import Diverged
from compress.recipe import artifact
from tests.unit.search.recipes import TEACHER, write_document

Printed = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *args: None)
    stages = {"teacher": TEACHER, "proof": {"do": "eval", "from": ["teacher"], "device": "cpu"}}
    Path("mine.yaml").write_text(yaml.safe_dump(write_document(tmp_path / "in", stages), sort_keys=False), encoding="utf-8")


def call(capsys: Printed, *arguments: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    printed = capsys.readouterr()
    assert caught.value.code == code, printed.err
    return printed.out


GRID = ("sweep", "mine.yaml", "--grid", "teacher.lr=1e-3,2e-3", "--seeds", "0", "1", "-o", "out")


def test_plan_run_and_plan_again(capsys: Printed) -> None:
    plan = json.loads(call(capsys, "--json", *GRID, "--dry-run"))
    assert plan["different_stages"] == 8
    assert [(point["values"], point["seed"], point["stored"], point["stages"]) for point in plan["points"]][:2] == [
        ({"teacher.lr": 1e-3}, 0, 0, 2),
        ({"teacher.lr": 1e-3}, 1, 0, 2),
    ]
    assert not Path("out").exists()
    document: dict[str, Any] = json.loads(call(capsys, "--json", *GRID))
    assert document == json.loads(Path("out/sweep.json").read_text(encoding="utf-8"))
    assert [entry["finished"] for entry in document["settings"]] == [2, 2]
    table = call(capsys, "--quiet", *GRID)
    assert "teacher.lr   seeds" in table
    assert table.count(" ± ") >= 2
    assert "report: out/report.html" in table
    assert "8 different stages" in call(capsys, *GRID, "--dry-run")
    assert [point["stored"] for point in json.loads(call(capsys, "--json", *GRID, "--dry-run"))["points"]] == [2] * 4


def test_a_failed_point_is_in_the_table_and_gives_the_exit_code(capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    call_stage = artifact.call_stage

    def failing(stage: Any, *rest: Any) -> Any:
        if getattr(stage.settings, "lr", None) == 2e-3:
            raise Diverged("the loss is not finite", "lower the learning rate")
        return call_stage(stage, *rest)

    monkeypatch.setattr(artifact, "call_stage", failing)
    table = call(capsys, "--quiet", *GRID, code=7)
    assert "failed: teacher.lr=0.002, seed 0: the loss is not finite" in table
    document = json.loads(call(capsys, "--json", *GRID, code=7))
    assert document["error"].startswith("2 of 4 points failed; the first (teacher.lr=0.002, seed 0, stage teacher)")
    assert [entry["failed"] for entry in document["settings"]] == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--grid", "teacher.lr"), 2, "write it as path=value,value"),
        (("--grid", "techer.lr=1e-3"), 3, "did you mean 'teacher'"),
        (("--seeds", "1", "1"), 2, "seed 1 was given twice"),
        (("--ray", "ray://host:10001"), 2, "run this on a node of the cluster"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(capsys: Printed, arguments: tuple[str, ...], code: int, message: str) -> None:
    failure = json.loads(call(capsys, "--json", "sweep", "mine.yaml", "-o", "out", *arguments, code=code))
    assert message in f"{failure['error']} {failure['hint']}"
