"""The runners of searches: what they ask, and the table."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from eval import auto, auto_latency, auto_resume

ROW = auto.Row(
    data="sst2", seed=0, teacher=89.35, answer="4.75x, int8", speedup=16.0, speedup_ci95=[15.5, 16.5], points=0.6, points_ci95=[-0.4, 1.6],
    n=1821, validation_points=0.3, minutes=41.2, kept=True, asked="",
)  # fmt: skip


def test_the_table_has_the_geometric_mean() -> None:
    lines = auto.table([ROW, {**ROW, "data": "mrpc", "speedup": 4.0, "kept": False}]).splitlines()
    assert lines[2] == "| sst2 | 0 | 89.35 | 4.75x, int8 | 16.0x [15.5, 16.5] | 0.60 [-0.4, 1.6] | 1,821 | 0.30 | 41.2 |"
    assert "4.75x, int8 (nearest)" in lines[3]
    assert "8.0x (geometric)" in lines[4]


def test_a_task_has_the_splits_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "sts").mkdir()
    for split in ("train", "test"):
        (tmp_path / "sts" / f"{split}.parquet").touch()
    options = auto.task_options("sts", tmp_path)
    assert options[:4] == ["--train", str(tmp_path / "sts" / "train.parquet"), "--test", str(tmp_path / "sts" / "test.parquet")]
    assert options[-4:] == ["--kind", "regression", "--metric", "spearman"]
    assert auto.task_options("bbc-news", tmp_path)[:2] == ["--task", "bbc-news"]


def test_a_finished_search_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["sst2", "--data", str(tmp_path), "-o", str(tmp_path)]
    ran: list[str] = []

    def ended(log: object, *command: str) -> tuple[int, Any]:
        ran.append(command[0])
        if command[0] == "auto":
            verdict = {key: ROW[key] for key in ("n",)} | {"baseline": 0.8935, "drop_points": 0.6, "drop_ci95": [-0.4, 1.6]}
            verdict["validation_drop_points"] = 0.3
            (tmp_path / "sst2-seed0").mkdir()
            document = {"verdict": verdict, "answer": {"candidate": "4.75x, int8"}, "spent_seconds": 2472.0, "kept": True}
            (tmp_path / "sst2-seed0" / "auto.json").write_text(json.dumps(document), encoding="utf-8")
        return 0, {"results": [{}, {"speedup": {"ratio": 16.0, "ci95": [15.5, 16.5]}}]}

    monkeypatch.setattr(auto, "compress", ended)
    assert auto.main(given) == 0
    assert auto.main(given) == 0
    assert ran == ["auto", "bench"]
    assert "| sst2 | 0 | 89.35 |" in capsys.readouterr().out


def test_a_killed_command_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the search counts its starts, and takes half a second."""
    script = (
        "import json, pathlib, sys, time; a = sys.argv; out = pathlib.Path(a[a.index('-o') + 1]); out.mkdir(exist_ok=True); "
        "starts = out / 'starts'; starts.write_text(starts.read_text() + 'x' if starts.is_file() else 'x'); time.sleep(0.5); "
        "(out / 'auto.json').write_text(json.dumps({'starts': len(starts.read_text())}))"
    )
    run = tmp_path / "python"
    run.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script}" "$@"\n', encoding="utf-8")
    run.chmod(0o755)
    monkeypatch.setattr(auto_resume.sys, "executable", str(run))
    options = argparse.Namespace(model="m", budget="1m", seed=0)
    document, _ = auto_resume.searched(options, [], "1", tmp_path / "out", tmp_path / "store", kills=3, seconds=0.3)
    assert isinstance(document["starts"], int)
    assert document["starts"] >= 1
    again, _ = auto_resume.searched(options, [], "1", tmp_path / "out", tmp_path / "store")
    assert again == document  # a finished search is not run again


@pytest.mark.parametrize(("ratio", "code"), [(9.8, 0), (9.4, 1)])
def test_an_answer_that_is_slower_than_promised_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ratio: float, code: int
) -> None:
    asked: list[tuple[str, ...]] = []

    def ended(log: object, *command: str) -> tuple[int, Any]:
        asked.append(command)
        if command[0] == "auto":
            folder = Path(command[command.index("-o") + 1])
            folder.mkdir()
            serving = {"batch_size": 1, "seq_len": 16, "threads": 2, "runtime": "auto"}
            verdict = {"drop_points": 0.6, "drop_ci95": [-0.4, 1.6], "n": 400}
            document = {"serving": serving, "verdict": verdict, "answer": {"candidate": "4x, int8", "latency_ms": 1.9}, "kept": True}
            document |= {"speedup": {"ratio": 10.0}, "spent_seconds": 90.0}
            (folder / "auto.json").write_text(json.dumps(document), encoding="utf-8")
        return 0, {"results": [{}, {"speedup": {"ratio": ratio}, "latency_ms": {"p50": 2.0}}]}

    monkeypatch.setattr(auto_latency, "compress", ended)
    given = ["m", "--target-latency-ms", "2", "-o", str(tmp_path), "--", "--task", "sst2"]
    assert auto_latency.main(given) == code
    assert asked[0][:4] == ("auto", "m", "--task", "sst2")
    assert asked[1][1:] == ("m", str(tmp_path / "2ms" / "model"), "--batch-size", "1", "--seq-len", "16", "--threads", "2", "--no-memory")
    assert f"| 2 | 4x, int8 | 1.9 | 2 | {1000 / ratio - 100:+.1f} % | 0.60 [-0.4, 1.6] | 400 | 1.5 |" in capsys.readouterr().out
