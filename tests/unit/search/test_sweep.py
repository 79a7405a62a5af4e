"""A small sweep, run once for real; then everything that must happen when it is run again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from compress.core import files
from compress.core.errors import CompressError, DataError, PointsFailed, UsageError
from compress.recipe import artifact
from compress.recipe import load as loading
from compress.recipe.run import run_recipe
from compress.search.sweep import Sweep, different_stages, load_sweep, run_sweep, stored_counts
from tests.unit.search.recipes import write_document

GRID: dict[str, list[object]] = {"slim.target_flops": [0.5, 0.25]}
Document = dict[str, Any]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    folder = tmp_path_factory.mktemp("inputs")
    document = write_document(folder) | {"gates": {"max_drop": 0.0}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return load_sweep(str(folder / "tiny.yaml"), GRID, [0, 1])


@pytest.fixture(scope="module")
def first(sweep: Sweep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the first sweep; read it only."""
    output = tmp_path_factory.mktemp("sweeps") / "my sweep"
    run_sweep(sweep, output)
    return output


def document_of(output: Path) -> Document:
    return files.read_json(output / "sweep.json")


def digests_of(output: Path) -> dict[str, str]:
    return {stage["id"]: stage["digest"] for stage in document_of(output)["stages"]}


def test_a_sweep_leaves_what_it_promises(sweep: Sweep, first: Path) -> None:
    assert {path.name for path in first.iterdir()} == {"events.jsonl", "points", "report.html", "store", "sweep.json", "sweep.yaml"}
    document = document_of(first)
    assert (document["recipe"], document["grid"], document["seeds"]) == ("tiny-search", GRID, [0, 1])
    assert (document["metric"], document["baseline"]) == ("accuracy", "teacher")
    assert [(point["values"]["slim.target_flops"], point["seed"]) for point in document["points"]] == [
        (0.5, 0),
        (0.5, 1),
        (0.25, 0),
        (0.25, 1),
    ]
    for point in document["points"]:
        manifest = files.read_json(first / point["folder"] / "manifest.json")
        assert manifest["gates"] == point["gates"]
        assert (first / point["folder"] / "model" / "model.safetensors").is_file()
        assert point["digest"] == manifest["stages"][point["model"]]["digest"]
        assert point["failure"] is None
        assert 0 <= point["score"] <= 1


@pytest.mark.parametrize("mistake", ["column", "store", "ray"])
def test_a_mistake_leaves_nothing(tmp_path: Path, mistake: str) -> None:
    folder = tmp_path / "in"
    document = write_document(folder)
    if mistake == "column":
        document["task"] = {**document["task"], "text": ["txet"]}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    plan, before = load_sweep(str(folder / "tiny.yaml"), GRID), sorted(tmp_path.rglob("*"))
    with pytest.raises(CompressError, match="did you mean 'text'|no store of finished stages|no address of a cluster|package ray"):
        run_sweep(plan, tmp_path / "out", "loacl" if mistake == "ray" else None, folder if mistake == "store" else None)
    assert sorted(tmp_path.rglob("*")) == before


def test_shared_stages_ran_once(sweep: Sweep, first: Path) -> None:
    stages = document_of(first)["stages"]
    assert [stage["stage"] for stage in stages] == ["teacher", "slim", "proof"] * 2 + ["slim", "proof"] * 2
    assert [stage["points"] for stage in stages if stage["stage"] == "teacher"] == [2, 2]
    assert all(stage["ran"] and stage["seconds"] > 0 for stage in stages)
    assert different_stages(sweep) == len(stages) == len(list((first / "store").iterdir()))
    assert all(set(stage["needs"]) <= {other["id"] for other in stages} for stage in stages)


def test_settings_have_mean_and_spread_over_the_seeds(first: Path) -> None:
    document = document_of(first)
    for entry in document["settings"]:
        scores = [point["score"] for point in document["points"] if point["values"] == entry["values"]]
        assert entry["score"]["mean"] == pytest.approx(sum(scores) / 2)
        assert (entry["score"]["min"], entry["score"]["max"], entry["score"]["n"]) == (min(scores), max(scores), 2)
        missed = [point for point in document["points"] if point["values"] == entry["values"] and not point["gates"][0]["passed"]]
        assert (entry["finished"], entry["failed"], entry["gates_missed"]) == (2, 0, len(missed))
        assert entry["p50_ms"] is None
    assert list(document["metrics"]) == ["slim.target_flops=0.5", "slim.target_flops=0.25"]


def test_a_point_is_an_ordinary_run(sweep: Sweep, first: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(first / sweep.points[0].folder, tmp_path / "run"))
    assert run_recipe(loading.load(str(folder / "recipe.resolved.yaml")), folder)["stages_run"] == 0


def test_a_second_call_runs_nothing(sweep: Sweep, first: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(first, tmp_path / "again"))
    document = run_sweep(sweep, again)
    assert not any(stage["ran"] for stage in document["stages"])
    assert digests_of(again) == digests_of(first)
    assert stored_counts(sweep, again) == [(3, 3)] * 4


def test_a_larger_sweep_on_the_same_store_runs_what_is_new(sweep: Sweep, first: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(first / "store", tmp_path / "store"))
    first_two = Sweep(sweep.grid, sweep.points[:2])
    document = run_sweep(first_two, tmp_path / "other", store=store)
    assert not any(stage["ran"] for stage in document["stages"])
    assert document["store"] == str(store)
    assert not (tmp_path / "other" / "store").exists()


@pytest.mark.parametrize("stop_after", [1, 4])
def test_an_interrupted_sweep_resumes_to_the_same_digests(
    sweep: Sweep, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    call, calls = artifact.call_stage, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) > stop_after:
            raise KeyboardInterrupt
        return call(*arguments)

    monkeypatch.setattr(artifact, "call_stage", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(sweep, tmp_path / "sweep")
    monkeypatch.setattr(artifact, "call_stage", call)
    document = run_sweep(sweep, tmp_path / "sweep")
    assert sum(stage["ran"] for stage in document["stages"]) == 10 - stop_after
    assert digests_of(tmp_path / "sweep") == digests_of(first)


def test_a_point_that_fails_does_not_stop_the_others(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = artifact.call_stage

    def failing(stage: Any, *rest: Any) -> Any:
        if stage.name == "slim" and stage.settings.target_flops == 0.5 and stage.seed == 1:
            raise DataError("no data", "get some")
        return call(stage, *rest)

    monkeypatch.setattr(artifact, "call_stage", failing)
    with pytest.raises(
        PointsFailed, match=r"1 of 4 points failed; the first \(slim.target_flops=0.5, seed 1, stage slim\): no data"
    ) as caught:
        run_sweep(sweep, tmp_path / "sweep")
    assert (caught.value.exit_code, caught.value.hint) == (4, "get some")
    document = document_of(tmp_path / "sweep")
    assert document == json.loads(json.dumps(caught.value.document, default=str))
    failed = document["points"][1]
    assert failed["failure"] == {"stage": "slim", "message": "no data", "hint": "get some", "exit_code": 4}
    assert failed["folder"] is failed["score"] is None
    assert [entry["failed"] for entry in document["settings"]] == [1, 0]
    assert [(stage["stage"], stage["digest"] is None) for stage in document["stages"]].count(("proof", True)) == 1
    assert "no data" in (tmp_path / "sweep" / "report.html").read_text(encoding="utf-8")


def test_a_folder_of_something_else_is_refused(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="is not the folder of a sweep"):
        run_sweep(sweep, tmp_path)
