"""A whole small recipe, run once for real; then everything that must happen when it is run again."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from compress.core import artifacts, console, files, locks
from compress.core.errors import DataError, GateMissed, Locked, ModelError, UsageError
from compress.inference.artifact import load_onnx
from compress.models.checkpoint import load_model
from compress.recipe import artifact as module
from compress.recipe import load as loading
from compress.recipe.run import check_run_folder, run_recipe
from tests import tiny

Maker = Callable[..., Path]
Document = dict[str, Any]
STAGES: Document = {
    "teacher": {"do": "finetune", "from": "model", "epochs": 1, "lr": 2e-3, "batch_size": 8, "precision": "fp32", "device": "cpu"},
    "slim": {"do": "prune", "from": "teacher", "method": "magnitude", "target_flops": 0.5, "device": "cpu"},
    "student": {"do": "distill", "from": "slim", "teacher": "teacher", "epochs": 1, "batch_size": 8, "precision": "fp32", "device": "cpu"},
    "graph": {"do": "export", "from": "student"},
    "int8": {"do": "quantize", "from": "graph"},
    "proof": {"do": "eval", "from": ["teacher", "slim", "student", "graph", "int8"]},
    "speed": {"do": "bench", "from": ["teacher", "graph", "int8"], "seq_len": [8], "rounds": 5, "memory": False},
}
NAMES = list(STAGES)


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """The recipe: an encoder that knows nothing, a tiny task, every verb."""
    folder = tmp_path_factory.mktemp("inputs")
    model = tiny.write_encoder(folder / "encoder")
    return {
        "schema": 1,
        "name": "tiny-run",
        "seed": 3,
        "model": str(model),
        "task": tiny.write_task(folder / "task"),
        "gates": {"max_drop": 100.0, "min_speedup": 1e-6},
        "stages": STAGES,
    }


def go(document: Document, output: Path) -> Document:
    """Run a document."""
    return run_recipe(loading.build(copy.deepcopy(document), "tiny.yaml", Path("/")), output)


@pytest.fixture(scope="module")
def first(document: Document, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the first run; read it only."""
    output = tmp_path_factory.mktemp("runs") / "my run"
    go(document, output)
    return output


@pytest.fixture
def again(first: Path, tmp_path: Path) -> Path:
    """A copy of the first run's folder."""
    return Path(shutil.copytree(first, tmp_path / "run"))


def events(output: Path) -> list[Document]:
    """Return what a run's log says."""
    return [json.loads(line) for line in (output / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def ran(output: Path) -> list[str]:
    """Return the stages that the last run of a folder ran."""
    log = events(output)
    start = max(number for number, event in enumerate(log) if event["event"] == "run started")
    return [event["stage"] for event in log[start:] if event["event"] == "stage started"]


def manifest_of(output: Path, stage: str) -> Document:
    """Return a stage's manifest."""
    found = artifacts.read_manifest(next((output / "stages").glob(f"*-{stage}")))
    assert found is not None
    return found


def test_a_run_leaves_what_it_promises(first: Path) -> None:
    assert {path.name for path in first.iterdir()} == {
        "recipe.resolved.yaml",
        "manifest.json",
        "events.jsonl",
        "stages",
        "report.html",
        "model",
    }
    assert sorted(path.name for path in (first / "stages").iterdir()) == [f"{number:02d}-{name}" for number, name in enumerate(NAMES, 1)]
    assert not list(first.parent.glob(".*"))
    assert ran(first) == NAMES


def test_the_manifest_holds_the_provenance(first: Path, document: Document) -> None:
    manifest = files.read_json(first / "manifest.json")
    assert manifest["recipe"] == "tiny-run"
    assert manifest["model"]["reference"] == document["model"]
    assert manifest["data"]["task"] == "tiny"
    assert all(len(digest) == 64 for digest in (manifest["model"]["digest"], manifest["data"]["fingerprint"]))
    assert manifest["seeds"] == dict.fromkeys(NAMES, 3)
    assert {"cpu", "cores", "instruction_sets", "torch", "onnxruntime", "compress", "python"} <= set(manifest["machine"])
    assert set(manifest["stages"]) == set(manifest["metrics"]) == set(NAMES)
    assert {"git_commit", "created", "seconds", "schema"} <= set(manifest)
    assert (manifest["stages_run"], manifest["stages_skipped"]) == (7, 0)
    for name, stage in manifest["stages"].items():
        own = artifacts.read_manifest(first / stage["folder"])
        assert own is not None
        assert (own["stage"], own["key"], own["digest"]) == (name, stage["key"], stage["digest"])
    assert [(gate["gate"], gate["passed"]) for gate in manifest["gates"]] == [("max_drop", True), ("min_speedup", True)]


def test_every_stage_has_its_manifest(first: Path) -> None:
    kinds = {name: manifest_of(first, name)["kind"] for name in NAMES}
    assert kinds == {
        "teacher": "checkpoint",
        "slim": "checkpoint",
        "student": "checkpoint",
        "graph": "onnx",
        "int8": "onnx",
        "proof": "measurement",
        "speed": "measurement",
    }
    manifest = manifest_of(first, "student")
    assert set(manifest["inputs"]) == {"slim", "teacher"}
    assert manifest["inputs"]["slim"] == manifest_of(first, "slim")["digest"]
    assert manifest["files"] == artifacts.digest_files(first / "stages" / "03-student")
    assert manifest["settings"]["epochs"] == 1
    assert manifest["seed"] == 3
    assert manifest["task"]["name"] == "tiny"
    assert {"torch", "transformers", "compress"} <= set(manifest["versions"])


def test_what_is_shipped_holds_no_path_of_this_machine(first: Path, document: Document) -> None:
    private = [str(Path(document["model"]).parent).encode(), str(first.parent).encode()]
    for path in [*(first / "model").rglob("*"), *(first / "stages").rglob("*")]:
        assert path.is_dir() or not any(name in path.read_bytes() for name in private), path


def test_a_run_inside_its_model_is_refused(document: Document) -> None:
    with pytest.raises(UsageError, match="lies inside the input"):
        go(document, Path(document["model"]) / "run")


def test_a_second_process_in_a_run_that_has_just_begun_is_told_so(document: Document, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".recipe.resolved.yaml.tmp-1").write_text("", encoding="utf-8")
    with locks.locked(tmp_path / "run"), pytest.raises(Locked):
        go(document, tmp_path / "run")


def test_lineage_tells_the_whole_way(first: Path, document: Document) -> None:
    lineage = manifest_of(first, "int8")["lineage"]
    assert lineage[0] == {"model": Path(document["model"]).name}
    assert [entry["verb"] for entry in lineage[1:]] == ["finetune", "prune", "distill", "export", "quantize"]
    assert manifest_of(first, "proof")["lineage"] == []


def test_the_models_open(first: Path) -> None:
    for name in ("01-teacher", "02-slim", "03-student"):
        assert load_model(first / "stages" / name).config.num_labels == 3
    for folder in (first / "stages" / "04-graph", first / "stages" / "05-int8", first / "model"):
        assert load_onnx(folder)("the dog and the cat").label in tiny.LABELS


def test_the_last_model_is_delivered_with_a_card(first: Path) -> None:
    delivered, made = first / "model", first / "stages" / "05-int8"
    assert artifacts.read_manifest(delivered) == artifacts.read_manifest(made)
    assert (delivered / "model.onnx").read_bytes() == (made / "model.onnx").read_bytes()
    assert "README.md" in {path.name for path in delivered.iterdir()}


def test_the_resolved_recipe_is_the_recipe(first: Path, document: Document) -> None:
    text = (first / "recipe.resolved.yaml").read_text(encoding="utf-8")
    again = loading.load(str(first / "recipe.resolved.yaml"))
    assert again.stages == loading.build(copy.deepcopy(document), "x", Path("/")).stages
    assert yaml.safe_load(text)["stages"]["teacher"]["warmup"] == 0.1


def test_events_are_json_with_their_times(first: Path) -> None:
    log = events(first)
    assert all("time" in event and "event" in event for event in log)
    kinds = [event["event"] for event in log]
    assert kinds[0] == "run started"
    assert kinds[-1] == "run finished"
    assert kinds.count("stage started") == kinds.count("stage finished") == 7
    assert "epoch" in kinds


def test_a_second_run_skips_everything(again: Path, document: Document, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in (again / "stages").rglob("*") if path.is_file()}
    monkeypatch.setattr(module, "call_stage", lambda *args: pytest.fail("a stage ran"))
    result = go(document, again)
    assert (result["stages_run"], result["stages_skipped"]) == (0, 7)
    assert ran(again) == []
    assert {path: path.stat().st_mtime_ns for path in (again / "stages").rglob("*") if path.is_file()} == before


def test_the_resolved_recipe_skips_everything_too(again: Path, first: Path, tmp_path: Path) -> None:
    recipe = loading.load(str(first / "recipe.resolved.yaml"))
    assert run_recipe(recipe, again)["stages_run"] == 0


def test_remains_of_killed_runs_are_removed_although_every_stage_is_skipped(again: Path, document: Document) -> None:
    remains = [again / ".manifest.json.tmp-1", again / "stages" / ".01-teacher.resume-abc" / "x", again / ".model.old-1" / "x"]
    for path in remains:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert go(document, again)["stages_run"] == 0
    assert [path for path in again.rglob(".*") if path.is_dir() or path.is_file()] == []


@pytest.mark.parametrize("stage", ["teacher", "slim", "graph", "proof"])
def test_a_stage_edited_by_hand_is_made_again_and_nothing_else(again: Path, first: Path, document: Document, stage: str) -> None:
    """Stages are deterministic, so that those after a stage made again find the same input and stay."""
    folder = next((again / "stages").glob(f"*-{stage}"))
    if stage == "proof":
        (folder / "notes.txt").write_text("mine", encoding="utf-8")
    else:
        weights = next(path for path in folder.iterdir() if path.suffix in {".safetensors", ".onnx"})
        content = bytearray(weights.read_bytes())
        content[-2] ^= 1
        weights.write_bytes(content)
    go(document, again)
    assert ran(again) == [stage]
    assert artifacts.digest_files(folder) == artifacts.digest_files(first / "stages" / folder.name)


@pytest.mark.parametrize(
    ("stage", "change", "expected"),
    [
        ("student", {"temperature": 3.0}, ["student", "graph", "int8", "proof", "speed"]),
        ("graph", {"tolerance": 0.01}, ["graph"]),  # the graph itself is the same
        ("proof", {"split": "validation"}, ["proof"]),
        ("speed", {"rounds": 6}, ["speed"]),
    ],
    ids=str,
)
def test_a_changed_setting_runs_its_stage_and_what_it_changes(
    again: Path, document: Document, stage: str, change: Document, expected: list[str]
) -> None:
    other = copy.deepcopy(document)
    other["stages"][stage] |= change
    go(other, again)
    assert ran(again) == expected


def test_a_new_stage_runs_alone(again: Path, document: Document) -> None:
    other = copy.deepcopy(document)
    other["stages"]["more"] = {"do": "export", "from": "slim"}
    assert go(other, again)["stages_run"] == 1
    assert (again / "stages" / "08-more" / "model.onnx").is_file()


def test_an_interrupted_run_keeps_what_is_done_and_goes_on(
    document: Document, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    original = module.call_stage

    def interrupted(stage: Any, workspace: Any, folder: Path, resume: Path | None) -> Any:
        if stage.name == "student":
            (folder / "half").write_bytes(b"written")
            raise KeyboardInterrupt
        return original(stage, workspace, folder, resume)

    with monkeypatch.context() as patch:
        patch.setattr(module, "call_stage", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go(document, output)
    assert sorted(path.name for path in (output / "stages").iterdir()) == ["01-teacher", "02-slim"]
    assert not (output / "manifest.json").exists()
    assert events(output)[-1]["event"] == "interrupted"
    assert go(document, output)["stages_skipped"] == 2
    assert ran(output) == NAMES[2:]
    for name in ("01-teacher", "02-slim", "03-student", "04-graph", "05-int8"):  # resumed = uninterrupted
        assert artifacts.digest_files(output / "stages" / name) == artifacts.digest_files(first / "stages" / name)


def test_a_failed_stage_leaves_nothing_and_is_told(document: Document, tmp_path: Path) -> None:
    other = copy.deepcopy(document)
    other["stages"] = {"graph": {"do": "export", "from": "model"}}
    other["gates"] = {}
    with pytest.raises(ModelError, match="without a classifier"):
        go(other, tmp_path / "run")
    assert list((tmp_path / "run" / "stages").iterdir()) == []
    assert events(tmp_path / "run")[-1] | {"time": ""} == {
        "time": "", "event": "failed", "exit_code": 4, "message": events(tmp_path / "run")[-1]["message"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        ({"min_speedup": 1e6}, "the gate min_speedup 1e+06 was missed"),
        ({"max_drop": 0.0}, "the gate max_drop 0 was missed: 25.00 (points of accuracy on test, n = 24, int8 against teacher)"),
        ({"max_drop": 0.0, "min_speedup": 1e6}, "; the gate min_speedup"),
    ],
    ids=str,
)
def test_a_missed_gate_is_an_error_after_everything_is_written(again: Path, document: Document, gates: Document, message: str) -> None:
    proof = again / "stages" / "06-proof"
    manifest = manifest_of(again, "proof")
    manifest["results"][0]["metrics"]["accuracy"], manifest["results"][-1]["metrics"]["accuracy"] = 0.75, 0.5
    files.write_json(proof / artifacts.MANIFEST, manifest)
    for name in ("report.html", "manifest.json"):
        (again / name).unlink()
    with pytest.raises(GateMissed) as caught:
        go(document | {"gates": gates}, again)
    assert caught.value.exit_code == 6
    assert message in caught.value.message
    assert (again / "report.html").is_file()
    written = files.read_json(again / "manifest.json")
    assert [gate["passed"] for gate in written["gates"]] == [False] * len(gates)
    assert ran(again) == []


HOLDER = """
import sys
from pathlib import Path
from compress.core import locks
with locks.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_that_was_killed_before_its_recipe_was_written_begins_again(document: Document, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".recipe.resolved.yaml.tmp-1").write_text("sch", encoding="utf-8")
    check_run_folder(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="not a run folder"):
        check_run_folder(tmp_path / "run")


def test_a_run_folder_in_use_is_locked(again: Path, document: Document) -> None:
    before = artifacts.digest_files(again)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(again)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Locked, match=f"in use by process {holder.pid}") as caught:
            go(document, again)
    assert caught.value.exit_code == 75
    assert artifacts.digest_files(again) == before


def test_a_folder_of_something_else_is_left_alone(document: Document, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="not a run folder") as caught:
        go(document, tmp_path)
    assert caught.value.exit_code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_output_that_is_a_file_is_refused(document: Document, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        go(document, tmp_path / "file")


def test_missing_inputs_fail_before_the_folder_is_made(document: Document, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        go(document | {"model": str(tmp_path / "nowhere")}, tmp_path / "run")
    with pytest.raises(DataError, match="no file"):
        go(document | {"task": document["task"] | {"train": "/nowhere.csv"}}, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_events_stop_with_the_run(first: Path) -> None:
    size = (first / "events.jsonl").stat().st_size
    console.event("later")
    assert (first / "events.jsonl").stat().st_size == size
