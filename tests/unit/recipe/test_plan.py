"""Cache keys: they change with what a stage computes, and with nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from compress.core import artifacts, files
from compress.core.errors import DataError, ModelError, ResourceError
from compress.recipe import load as loading
from compress.recipe import plan as module
from compress.recipe.plan import Workspace, check_inputs, finished, plan, stage_folders
from compress.recipe.schema import Recipe
from tests import tiny

Maker = Callable[..., Path]
ORDER = ["teacher", "slim", "student", "graph", "int8", "proof", "speed"]


@pytest.fixture
def document(own_checkpoint: Maker, tmp_path: Path) -> dict[str, Any]:
    """A recipe with a model and data of this test's own."""
    return {
        "schema": 1,
        "name": "plan",
        "seed": 1,
        "model": str(own_checkpoint()),
        "task": tiny.write_task(tmp_path / "task", 12, 6, 6),
        "stages": {
            "teacher": {"do": "finetune", "from": "model"},
            "slim": {"do": "prune", "from": "teacher", "target_flops": 0.5},
            "student": {"do": "distill", "from": "slim", "teacher": "teacher"},
            "graph": {"do": "export", "from": "student"},
            "int8": {"do": "quantize", "from": "graph"},
            "proof": {"do": "eval", "from": ["teacher", "int8"]},
            "speed": {"do": "bench", "from": ["slim", "int8"]},
        },
    }


def build(document: dict[str, Any]) -> Recipe:
    """Check a document."""
    return loading.build(copy.deepcopy(document), "plan.yaml", Path("/"))


def keys(document: dict[str, Any]) -> dict[str, str]:
    """Return every stage's key, as if each stage's output were decided by its key alone."""
    recipe = build(document)
    workspace = Workspace(recipe)
    found = {}
    for name, stage in recipe.stages.items():
        found[name] = workspace.key(stage)
        workspace.finish(name, Path(name), {"digest": found[name]})
    return found


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the stages whose keys differ."""
    first, second = keys(before), keys(after)
    return [name for name in first if first[name] != second[name]]


def edited(document: dict[str, Any], stage: str, **fields: Any) -> dict[str, Any]:
    """Return the document with a stage's fields changed."""
    other = copy.deepcopy(document)
    other["stages"][stage] |= fields
    return other


def test_keys_are_the_same_every_time_and_differ_by_stage(document: dict[str, Any]) -> None:
    found = keys(document)
    assert found == keys(document)
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize(
    ("stage", "fields", "expected"),
    [
        ("teacher", {"epochs": 5}, ORDER),
        ("slim", {"target_flops": 0.4}, ["slim", "student", "graph", "int8", "proof", "speed"]),
        ("student", {"temperature": 3.0}, ["student", "graph", "int8", "proof", "speed"]),
        ("student", {"seed": 9}, ["student", "graph", "int8", "proof", "speed"]),
        ("student", {"from": "teacher"}, ["student", "graph", "int8", "proof", "speed"]),
        ("graph", {"tolerance": 0.5}, ["graph", "int8", "proof", "speed"]),
        ("int8", {"max_drop": 3.0}, ["int8", "proof", "speed"]),
        ("proof", {"split": "validation"}, ["proof"]),
        ("proof", {"from": ["int8", "teacher"]}, ["proof"]),
        ("speed", {"rounds": 6}, ["speed"]),
        ("speed", {"from": ["slim"]}, ["speed"]),
        ("teacher", {"epochs": 3}, []),  # the default, written out
        ("student", {"seed": 1}, []),
    ],
    ids=str,
)
def test_a_change_reaches_the_stage_and_what_comes_after_it(
    document: dict[str, Any], stage: str, fields: dict[str, Any], expected: list[str]
) -> None:
    assert changed(document, edited(document, stage, **fields)) == expected


@pytest.mark.parametrize("fields", [{"gates": {"max_drop": 1.0}}, {"name": "other"}, {"description": "words"}], ids=str)
def test_what_computes_nothing_is_in_no_key(document: dict[str, Any], fields: dict[str, Any]) -> None:
    assert changed(document, document | fields) == []


def test_the_seed_is_in_every_key(document: dict[str, Any]) -> None:
    assert changed(document, document | {"seed": 2}) == ORDER


def test_the_data_is_in_every_key(document: dict[str, Any], tmp_path: Path) -> None:
    assert changed(document, document | {"task": document["task"] | {"max_length": 16}}) == ORDER
    before = keys(document)
    frame = pd.read_parquet(document["task"]["test"])
    frame.loc[0, "text"] = "other words"
    frame.to_parquet(document["task"]["test"])
    assert all(before[name] != key for name, key in keys(document).items())


def test_data_elsewhere_with_the_same_contents_is_the_same(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    task = copy.deepcopy(document["task"])
    for split in ("train", "validation", "test"):
        task[split] = str(Path(task[split]).rename(tmp_path / "elsewhere" / f"{split}-2.parquet"))
    before_task, after = document["task"], document | {"task": task}
    found = keys(after)
    for split in ("train", "validation", "test"):
        Path(task[split]).rename(before_task[split])
    assert found == keys(document)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_the_models_contents_are_in_every_key(document: dict[str, Any], name: str) -> None:
    before = keys(document)
    path = Path(document["model"]) / name
    path.write_bytes(path.read_bytes() + b"\n")
    assert all(before[stage] != key for stage, key in keys(document).items())


def test_what_writes_variants_is_in_the_key(document: dict[str, Any], tmp_path: Path) -> None:
    writer = tiny.write_masked_lm(tmp_path / "writer")
    document = edited(document, "student", augment=2, augment_model=str(writer))
    before = keys(document)
    tiny.edit_config(writer, layer_norm_eps=1e-3)
    after = keys(document)
    assert [name for name in before if before[name] != after[name]] == ORDER[2:]


def test_the_model_elsewhere_with_the_same_contents_is_the_same(document: dict[str, Any], tmp_path: Path) -> None:
    before = keys(document)
    moved = Path(document["model"]).rename(tmp_path / "elsewhere")
    assert keys(document | {"model": str(moved)}) == before


def test_code_and_libraries_are_in_every_key(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(document)
    with monkeypatch.context() as patch:
        patch.setattr(module.machine, "versions", lambda: {"torch": "99.0"})
        assert all(before[name] != key for name, key in keys(document).items())
    with monkeypatch.context() as patch:
        patch.setattr(module, "code_version", lambda verb: "other code")
        assert all(before[name] != key for name, key in keys(document).items())


def test_the_machine_is_in_the_keys_of_what_depends_on_it(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def direct() -> dict[str, str]:
        workspace = Workspace(build(document))
        for name in ORDER:
            workspace.finish(name, Path(name), {"digest": name})
        return {name: workspace.key(stage) for name, stage in workspace.recipe.stages.items()}

    before = direct()
    monkeypatch.setattr(module.machine, "identity", lambda: ["another machine"])
    after = direct()
    assert [name for name in ORDER if before[name] != after[name]] == ["slim", "graph", "int8", "proof", "speed"]


def test_how_a_model_is_recorded_to_run_is_in_the_keys_of_measurements(document: dict[str, Any]) -> None:
    def keys_with(runtime: Any) -> dict[str, str]:
        workspace = Workspace(build(document))
        for name in ORDER:
            workspace.finish(name, Path(name), {"digest": name, "runtime": runtime})
        return {name: workspace.key(stage) for name, stage in workspace.recipe.stages.items()}

    before, after = keys_with({}), keys_with({"routes": [{"up_to": None, "runtime": "openvino"}]})
    assert [name for name in ORDER if before[name] != after[name]] == ["proof", "speed"]


def write_stage(folder: Path, key: str = "key", **contents: bytes) -> None:
    """Write a finished stage's folder by hand."""
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files.write_json(folder / artifacts.MANIFEST, {"key": key, "digest": "d", "files": artifacts.digest_files(folder)})


def test_a_finished_stage_has_its_key_and_its_files(tmp_path: Path) -> None:
    write_stage(tmp_path / "a", weights=b"123")
    assert finished(tmp_path / "a", "key") is not None
    assert finished(tmp_path / "a", "other") is None
    assert finished(tmp_path / "nowhere", "key") is None


@pytest.mark.parametrize("damage", ["edit", "remove", "add", "rename", "manifest"])
def test_a_stage_edited_by_hand_is_not_finished(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "a"
    write_stage(folder, weights=b"123", config=b"4")
    {
        "edit": lambda: (folder / "weights").write_bytes(b"124"),
        "remove": lambda: (folder / "config").unlink(),
        "add": lambda: (folder / "more").write_bytes(b""),
        "rename": lambda: (folder / "config").rename(folder / "config2"),
        "manifest": lambda: (folder / artifacts.MANIFEST).write_text("{}", encoding="utf-8"),
    }[damage]()
    assert finished(folder, "key") is None


def test_folders_are_numbered_in_order(document: dict[str, Any]) -> None:
    folders = stage_folders(build(document), Path("run"))
    assert [str(path) for path in folders.values()] == [f"run/stages/{number:02d}-{name}" for number, name in enumerate(ORDER, 1)]


def test_a_fresh_plan_knows_only_what_has_no_inputs_to_wait_for(document: dict[str, Any], tmp_path: Path) -> None:
    items = list(plan(build(document), tmp_path / "run"))
    assert [item.stage.name for item in items] == ORDER
    assert [item.key is not None for item in items] == [True] + [False] * 6
    assert not any(item.cached for item in items)
    assert not (tmp_path / "run").exists()


def test_a_plan_follows_what_is_done(document: dict[str, Any], tmp_path: Path) -> None:
    recipe = build(document)
    workspace = Workspace(recipe)
    for name, folder in list(stage_folders(recipe, tmp_path / "run").items())[:3]:
        write_stage(folder, workspace.key(recipe.stages[name]), model=name.encode())
        workspace.finish(name, folder, artifacts.read_manifest(folder) or {})
    items = list(plan(recipe, tmp_path / "run"))
    assert [item.cached is not None for item in items] == [True] * 3 + [False] * 4
    assert [item.key is not None for item in items] == [True] * 4 + [False] * 3
    (items[1].folder / "model").write_bytes(b"edited")
    items = list(plan(recipe, tmp_path / "run"))
    assert [item.cached is not None for item in items] == [True] + [False] * 6


def test_inputs_are_checked_before_any_work(document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_inputs(build(document))
    with pytest.raises(ModelError, match="no model folder"):
        check_inputs(build(document | {"model": str(tmp_path / "nowhere")}))
    with pytest.raises(ModelError, match="no model folder"):
        check_inputs(build(edited(document, "proof", **{"from": ["teacher", str(tmp_path / "nowhere")]})))
    with pytest.raises(ModelError, match="no model folder"):
        check_inputs(build(edited(document, "student", augment=2, augment_model=str(tmp_path / "nowhere"))))
    with pytest.raises(ModelError, match="not a masked language model"):
        check_inputs(build(edited(document, "student", augment=2, augment_model=document["model"])))
    check_inputs(build(edited(document, "student", augment=2, augment_model=str(tiny.write_masked_lm(tmp_path / "writer")))))
    with pytest.raises(DataError, match="there is no file"):
        check_inputs(build(document | {"task": document["task"] | {"test": str(tmp_path / "nowhere.csv")}}))
    with pytest.raises(DataError, match="unusable"):
        check_inputs(build(document | {"task": document["task"] | {"labels": ["x", "y", "z"]}}))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cold"))
    with pytest.raises(ResourceError, match="offline"):
        check_inputs(build(document | {"model": "owner/name"}))
