"""Whole recipes through the real command line: skipped, overridden, killed and resumed, gated, locked."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.conftest import Command, command_environment

RECIPE = """
schema: 1
name: short
seed: 3
model: ./minilm-l2
task:
  name: slice
  text: [title, body]
  label: topic
  max_length: 32
  train: train.csv
  validation: validation.csv
  test: test.csv
gates: {max_drop: 90}
stages:
  teacher: {do: finetune, from: model, epochs: 1, batch_size: 16, lr: 2e-4}
  slim:    {do: prune, from: teacher, target_params: 0.5, method: magnitude}
  student: {do: distill, from: slim, teacher: teacher, epochs: 1, batch_size: 16}
  graph:   {do: export, from: student}
  int8:    {do: quantize, from: graph, method: dynamic}  # auto takes the faster form, which may be another one the second time
  proof:   {do: eval, from: [teacher, student, int8]}
  speed:   {do: bench, from: [teacher, graph, int8], seq_len: [16], rounds: 5, memory: false}
"""
STAGES = ["teacher", "slim", "student", "graph", "int8", "proof", "speed"]


def digests(run: Path) -> dict[str, str]:
    """The content digests of the models that a run made."""
    stages = json.loads((run / "manifest.json").read_text())["stages"]
    return {name: entry["digest"] for name, entry in stages.items() if entry["verb"] not in {"eval", "bench"}}


@pytest.fixture(scope="module")
def recipe(home: Path, data: dict[str, str], small_minilm: Path) -> Path:
    path = home / "short.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def finished(compress: Command, recipe: Path, home: Path) -> Path:
    document = compress("--json", "run", "short.yaml", "-o", "whole").document
    assert document["stages_run"] == len(STAGES)
    return home / "whole"


def test_a_run_folder_holds_what_it_promises(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {"recipe.resolved.yaml", "manifest.json", "events.jsonl", "stages", "report.html", "model"} <= names
    assert {path.name for path in (finished / "stages").iterdir()} == {f"{n:02d}-{name}" for n, name in enumerate(STAGES, 1)}
    assert {"model.onnx", "tokenizer.json", "config.json", "README.md", "compress.json"} <= {p.name for p in (finished / "model").iterdir()}
    manifest = json.loads((finished / "manifest.json").read_text())
    assert manifest["model"]["digest"]
    assert manifest["data"]["fingerprint"]
    assert manifest["machine"]["cpu"]
    assert manifest["gates"][0]["passed"] is True
    events = [json.loads(line)["event"] for line in (finished / "events.jsonl").read_text().splitlines()]
    assert events[0] == "run started"
    assert events[-1] == "run finished"


def test_a_second_run_skips_every_stage(compress: Command, finished: Path) -> None:
    before = digests(finished)
    document = compress("--json", "run", "short.yaml", "-o", "whole").document
    assert (document["stages_run"], document["stages_skipped"]) == (0, len(STAGES))
    assert digests(finished) == before


def test_a_dry_run_tells_what_an_override_would_run_again(compress: Command, finished: Path) -> None:
    plan = compress("--json", "run", "short.yaml", "-o", "whole", "--dry-run", "--set", "student.epochs=2").document["stages"]
    cached = {entry["stage"] for entry in plan if entry["plan"] == "cached"}
    assert cached == {"teacher", "slim"}


def test_local_files_take_the_place_of_the_tasks_data(compress: Command, finished: Path) -> None:
    plan = compress("--json", "run", "short.yaml", "-o", "whole", "--dry-run", "--train", "validation.csv", "--validation", "test.csv")
    assert {entry["plan"] for entry in plan.document["stages"]} == {"run"}


def test_killed_in_the_middle_of_distill_it_goes_on_and_ends_the_same(compress: Command, finished: Path, home: Path) -> None:
    """Begun with the stages before, which are those of the first run."""
    (home / "killed").mkdir()
    shutil.copy(finished / "recipe.resolved.yaml", home / "killed")
    for name in ("01-teacher", "02-slim"):
        shutil.copytree(finished / "stages" / name, home / "killed" / "stages" / name)
    command = [sys.executable, "-m", "compress", "run", "short.yaml", "-o", "killed"]
    environment = command_environment(home)
    process = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list((home / "killed" / "stages").glob(".03-student.tmp-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (home / "killed" / "stages" / "03-student").exists()
    again = compress("--json", "run", "short.yaml", "-o", "killed")
    assert again.document["stages_skipped"] == 2
    assert digests(home / "killed") == digests(finished)
    assert not list((home / "killed" / "stages").glob(".*"))


def test_a_missed_gate_ends_with_6_after_everything_is_written(compress: Command, finished: Path) -> None:
    missed = compress("run", "short.yaml", "-o", "whole", "--set", "gates.min_speedup=1000", check=False)
    assert missed.code == 6
    assert "min_speedup 1000" in missed.err
    assert "MISSED" in (finished / "report.html").read_text().upper()


def test_report_is_written_again_and_prints_the_table(compress: Command, finished: Path) -> None:
    (finished / "report.html").unlink()
    out = compress("report", "whole").out
    assert "int8" in out
    assert "report.html" in out
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "int8" in page
    assert 'src="http' not in page


def test_a_run_folder_in_use_is_refused_with_75(compress: Command, finished: Path, home: Path) -> None:
    holder = "import time; from pathlib import Path; from compress.core.locks import locked\n"
    holder += "with locked(Path('whole')): print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", holder], cwd=home, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        refused = compress("run", "short.yaml", "-o", "whole", check=False)
        assert refused.code == 75
        assert str(process.pid) in refused.err
    finally:
        process.kill()
        process.wait()
