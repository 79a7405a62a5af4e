"""Manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compress.core import artifacts
from compress.models.model_shape import model_shape
from compress.models.reference import digest_model
from compress.models.shape import config_entry
from compress.recipe import provenance as module
from tests import tiny


def test_the_commit_is_that_of_our_checkout_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = module.git_commit()
    assert found is None or len(found) == 40

    def missing(*args: Any, **kwargs: Any) -> Any:
        raise FileNotFoundError("git")

    monkeypatch.setattr(module.subprocess, "run", missing)
    assert module.git_commit() is None


def test_each_model_of_a_stage_has_a_manifest_of_its_own(tmp_path: Path) -> None:
    for name in ("2x", "3x"):
        tiny.write_checkpoint(tmp_path / name)
    models = [{"folder": "2x", "params": 5}, {"folder": "3x", "params": 3}]
    steps = [{"model": "x"}, {"verb": "prune", "settings": {}, "seed": 7}]
    module.write_model_manifests(
        tmp_path, {"key": "k", "params": 3, "task": {"max_length": 32}, "settings": {}, "lineage": steps, "models": models}
    )
    own = artifacts.read_manifest(tmp_path / "2x")
    assert own is not None
    assert (own["params"], own["lineage"], own["task"], own["digest"]) == (5, steps, {"max_length": 32}, digest_model(tmp_path / "2x"))
    assert not {"key", "models"} & set(own)
    assert own["plain"]
    tiny.edit_config(tmp_path / "2x", compress=config_entry(model_shape(tiny.make_model())))
    assert module.loads_plainly(tmp_path / "2x") == {"plain": False}
    assert "2x/compress.json" in artifacts.digest_files(tmp_path)


def test_a_manifest_names_files_and_folders_without_their_paths() -> None:
    manifest = {
        "settings": {"unlabeled": "/home/me/texts.txt", "lr": 1e-5},
        "task": {"train": "/home/me/train.csv", "labels": ["/m/01", "/m/02"]},
        "inputs": {"/home/me/teacher": "d1"},
        "lineage": [{"model": "/home/me/teacher"}, {"verb": "prune", "settings": {"unlabeled": "/home/me/texts.txt"}}],
    }
    assert module.public_manifest(manifest, ["slim"]) == {
        "settings": {"unlabeled": "texts.txt", "lr": 1e-5},
        "task": {"train": "train.csv", "labels": ["/m/01", "/m/02"]},
        "inputs": {"teacher": "d1"},
        "lineage": [{"model": "teacher"}, {"verb": "prune", "settings": {"unlabeled": "texts.txt"}}],
    }


def test_a_folder_of_judgements_is_named_without_its_path() -> None:
    assert module.public_manifest({"task": {"beir": "/home/me/scifact"}}, []) == {"task": {"beir": "scifact"}}
    assert module.public_manifest({"task": {"beir": "BeIR/scifact"}}, []) == {"task": {"beir": "BeIR/scifact"}}


def test_a_model_outside_of_the_run_is_no_stage_of_it() -> None:
    inputs = {"/old/teacher": "d1", "teacher": "d2", "./model": "d3", "slim/2x": "d4"}
    once = module.public_manifest({"inputs": inputs}, ["teacher", "slim"])
    assert once == {"inputs": {"./teacher": "d1", "teacher": "d2", "./model": "d3", "slim/2x": "d4"}}
    assert module.public_manifest(once, ["teacher", "slim"]) == once
