"""Cache keys: they change with what a stage computes, and with nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from compress.recipe import cache_key as module
from compress.recipe.cache_key import cache_key
from compress.recipe.workspace import Workspace
from tests import tiny
from tests.unit.recipe.planning import ORDER, build, changed, edited, keys


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
    path = Path(document["task"]["test"])
    first, *others = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([json.dumps(json.loads(first) | {"text": "other words"}), *others]) + "\n", encoding="utf-8")
    assert all(before[name] != key for name, key in keys(document).items())


def test_data_elsewhere_with_the_same_contents_is_the_same(document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    task = copy.deepcopy(document["task"])
    for split in ("train", "validation", "test"):
        task[split] = str(Path(task[split]).rename(tmp_path / "elsewhere" / f"{split}-2.jsonl"))
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
        return {name: cache_key(stage, workspace) for name, stage in workspace.recipe.stages.items()}

    before = direct()
    monkeypatch.setattr(module.machine, "identity", lambda: ["another machine"])
    after = direct()
    assert [name for name in ORDER if before[name] != after[name]] == ["slim", "graph", "int8", "proof", "speed"]


def test_how_a_model_is_recorded_to_run_is_in_the_keys_of_measurements(document: dict[str, Any]) -> None:
    def keys_with(runtime: Any) -> dict[str, str]:
        workspace = Workspace(build(document))
        for name in ORDER:
            workspace.finish(name, Path(name), {"digest": name, "runtime": runtime})
        return {name: cache_key(stage, workspace) for name, stage in workspace.recipe.stages.items()}

    before, after = keys_with({}), keys_with({"routes": [{"up_to": None, "runtime": "openvino"}]})
    assert [name for name in ORDER if before[name] != after[name]] == ["proof", "speed"]
