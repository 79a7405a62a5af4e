"""One verb by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import compress
from compress.core import artifacts, console
from compress.core.errors import ModelError, UsageError
from compress.inference.artifact import load_onnx
from compress.recipe import artifact as module
from compress.recipe import load as loading
from compress.recipe.single import run_single
from tests import tiny

Maker = Callable[..., Path]
Document = dict[str, Any]


def single(source: Path, output: Path | None, overwrite: bool = False, **settings: Any) -> Document:
    """Export by the path of a single verb."""
    document = {"schema": 1, "name": "export", "model": str(source), "stages": {"export": {"do": "export", "from": "model", **settings}}}
    return run_single(loading.build(document, "export", Path("/")), output, overwrite)


def test_a_single_verb_writes_the_artifact_itself(checkpoint: Maker, tmp_path: Path) -> None:
    result = single(checkpoint(), tmp_path / "my out")
    assert result["output"] == str(tmp_path / "my out")
    assert load_onnx(tmp_path / "my out")("the dog").label in tiny.LABELS
    assert artifacts.read_manifest(tmp_path / "my out") == json.loads(
        json.dumps(console.finite({key: value for key, value in result.items() if key not in ("output", "up_to_date")}))
    )
    assert [path.name for path in tmp_path.iterdir()] == ["my out"]


def test_a_single_verb_made_before_is_not_made_again(checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = single(checkpoint(), tmp_path / "out")
    monkeypatch.setattr(module, "call_stage", lambda *args: pytest.fail("ran again"))
    after = single(checkpoint(), tmp_path / "out")
    assert (after["digest"], after["created"]) == (before["digest"], before["created"])
    assert (before["up_to_date"], after["up_to_date"]) == (False, True)


def test_a_single_verb_with_other_settings_needs_overwrite(checkpoint: Maker, tmp_path: Path) -> None:
    single(checkpoint(), tmp_path / "out")
    before = artifacts.digest_files(tmp_path / "out")
    with pytest.raises(UsageError, match="made from other settings") as caught:
        single(checkpoint("electra"), tmp_path / "out")
    assert "--overwrite" in (caught.value.hint or "")
    assert artifacts.digest_files(tmp_path / "out") == before
    single(checkpoint("electra"), tmp_path / "out", overwrite=True)
    assert artifacts.digest_files(tmp_path / "out") != before


def test_a_single_verb_never_overwrites_what_is_not_ours(checkpoint: Maker, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="was not made by compress"):
            single(checkpoint(), tmp_path / "out", overwrite=overwrite)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    (tmp_path / "empty").mkdir()
    single(checkpoint(), tmp_path / "empty")


def test_an_output_inside_its_input_is_refused(own_checkpoint: Maker) -> None:
    source = own_checkpoint()
    before = artifacts.digest_files(source)
    for output in (source, source / "onnx", source / "a" / "b"):
        with pytest.raises(UsageError, match="lies inside the input"):
            single(source, output)
    assert artifacts.digest_files(source) == before


def test_a_failed_single_verb_leaves_nothing(own_checkpoint: Maker, tmp_path: Path) -> None:
    source = own_checkpoint()
    (source / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="damaged"):
        single(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [source.name]


def test_a_failed_overwrite_keeps_what_was_there(checkpoint: Maker, own_checkpoint: Maker, tmp_path: Path) -> None:
    single(checkpoint(), tmp_path / "out")
    before = artifacts.digest_files(tmp_path / "out")
    source = own_checkpoint()
    (source / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="damaged"):
        single(source, tmp_path / "out", overwrite=True)
    assert artifacts.digest_files(tmp_path / "out") == before


def test_measurements_need_no_folder(checkpoint: Maker, tiny_task: Document) -> None:
    result = compress.evaluate([checkpoint(), checkpoint("electra")], tiny_task)
    assert result["output"] is None
    assert [entry["model"] for entry in result["results"]] == [str(checkpoint()), str(checkpoint("electra"))]
