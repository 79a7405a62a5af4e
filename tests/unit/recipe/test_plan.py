"""Which stages are finished, and which must run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compress.core import artifacts, files
from compress.recipe.cache_key import cache_key
from compress.recipe.plan import finished, plan_run, stage_folders
from compress.recipe.workspace import Workspace
from tests.unit.recipe.planning import ORDER, build

Maker = Callable[..., Path]


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
    items = list(plan_run(build(document), tmp_path / "run"))
    assert [item.stage.name for item in items] == ORDER
    assert [item.key is not None for item in items] == [True] + [False] * 6
    assert not any(item.cached for item in items)
    assert not (tmp_path / "run").exists()


def test_a_plan_follows_what_is_done(document: dict[str, Any], tmp_path: Path) -> None:
    recipe = build(document)
    workspace = Workspace(recipe)
    for name, folder in list(stage_folders(recipe, tmp_path / "run").items())[:3]:
        write_stage(folder, cache_key(recipe.stages[name], workspace), model=name.encode())
        workspace.finish(name, folder, artifacts.read_manifest(folder) or {})
    items = list(plan_run(recipe, tmp_path / "run"))
    assert [item.cached is not None for item in items] == [True] * 3 + [False] * 4
    assert [item.key is not None for item in items] == [True] * 4 + [False] * 3
    (items[1].folder / "model").write_bytes(b"edited")
    items = list(plan_run(recipe, tmp_path / "run"))
    assert [item.cached is not None for item in items] == [True] + [False] * 6
