"""What MODEL may be: folders, hub ids from a cache laid out by hand, and the builtin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from compress.core import digests, hub
from compress.core.errors import ModelError, ResourceError
from compress.models import reference as module
from compress.models.checkpoint import load_model
from compress.models.reference import BUILTIN, digest_model, locate
from tests import tiny

Maker = Callable[..., Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def put_in_hub_cache(root: Path, repo: str, kind: str, revision: str = "main", commit: str = COMMIT) -> Path:
    """Make the folders that the hub client makes for a downloaded repository; returns the snapshot's folder."""
    folder = root / f"{kind}s--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text(commit, encoding="utf-8")
    snapshot = folder / "snapshots" / commit
    snapshot.mkdir(parents=True)
    return snapshot


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache of this test's own."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


def test_a_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate(tmp_path / "my model") == tmp_path / "my model"
    assert locate("my model") == Path("my model")
    assert locate("./my model").samefile(tmp_path / "my model")


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/model") == tmp_path / "model"


def test_a_home_that_nobody_has() -> None:
    with pytest.raises(ModelError):
        locate("~nobody-of-this-name/model")


def test_a_missing_folder_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "teacher").mkdir()
    with pytest.raises(ModelError, match="did you mean 'teacher'") as caught:
        locate(tmp_path / "techer")
    assert caught.value.exit_code == 4


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="is a file; a model is a folder"):
        locate(tmp_path / "model.safetensors")


TOO_LONG = "x" * 5000


@pytest.mark.parametrize("text", ["nowhere", "./a/b", "/a/b", "../a", "a/b/c", "owner/na me", "owner/", "/name", "a//b", TOO_LONG, "a\0b"])
def test_an_invalid_reference_is_refused_without_the_hub(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "snapshot", lambda *args: pytest.fail("asked the hub"))
    with pytest.raises(ModelError):
        locate(text)


def test_a_mistyped_path_is_not_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "snapshot", lambda *args: pytest.fail("asked the hub"))
    with pytest.raises(ModelError, match="no model folder"):
        locate("runs/teacher")


def test_a_hub_model_comes_from_the_cache(hub_cache: Path) -> None:
    snapshot = put_in_hub_cache(hub_cache, "owner/tiny-bert", "model")
    tiny.write_checkpoint(snapshot)
    assert locate("owner/tiny-bert").samefile(snapshot)
    assert load_model("owner/tiny-bert").config.model_type == "bert"


@pytest.mark.parametrize("revision", ["v1.0", COMMIT])
def test_a_hub_model_of_a_revision(hub_cache: Path, revision: str) -> None:
    snapshot = put_in_hub_cache(hub_cache, "owner/tiny", "model", revision if revision != COMMIT else "main")
    other = put_in_hub_cache(hub_cache, "owner/tiny", "model", "other", "f" * 40)
    assert locate(f"owner/tiny@{revision}").samefile(snapshot)
    assert locate("owner/tiny@other").samefile(other)


def test_a_name_from_before_the_hub_had_owners(hub_cache: Path) -> None:
    snapshot = put_in_hub_cache(hub_cache, "google-bert/bert-base-uncased", "model")
    assert locate("bert-base-uncased").samefile(snapshot)


def test_offline_with_a_cold_cache(hub_cache: Path) -> None:
    with pytest.raises(ResourceError, match="offline, and the model owner/tiny@v2 is not in the cache") as caught:
        locate("owner/tiny@v2")
    assert caught.value.exit_code == 5
    assert "hf download" in (caught.value.hint or "")


def test_the_builtin_is_checked_by_its_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_verified", set())
    folder = locate(BUILTIN)
    assert digests.digest_file(folder / "model.safetensors") == module.BUILTIN_SHA256
    monkeypatch.setattr(digests, "digest_file", lambda path: pytest.fail("digested twice"))
    assert locate(BUILTIN) == folder


def test_a_changed_builtin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_verified", set())
    monkeypatch.setattr(digests, "digest_file", lambda path: "0" * 64)
    with pytest.raises(ModelError, match="not the published ones"):
        locate(BUILTIN)


def test_a_builtin_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="not installed"):
        locate(BUILTIN)


def test_an_unknown_builtin_names_the_known_one() -> None:
    with pytest.raises(ModelError, match="unknown builtin") as caught:
        locate("builtin:minilm")
    assert BUILTIN in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_digest_changes_with_files_that_affect_the_logits(own_checkpoint: Maker, name: str) -> None:
    folder = own_checkpoint()
    before = digest_model(folder)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    assert digest_model(folder) != before


def test_digest_ignores_other_files(own_checkpoint: Maker) -> None:
    folder = own_checkpoint()
    before = digest_model(folder)
    (folder / "README.md").write_text("words", encoding="utf-8")
    (folder / "compress.json").write_text("{}", encoding="utf-8")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.safetensors").write_bytes(b"x")
    assert digest_model(folder) == before
