"""The hub behind one function: its failures as sentences with exit codes."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import errors

from compress.core import hub
from compress.core.errors import CompressError, DataError, ModelError, ResourceError


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Make the hub client raise `error`."""
    import huggingface_hub

    def raiser(*args: Any, **kwargs: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", raiser)


def response_error(kind: Any) -> Exception:
    """Make an error of the hub client, which wants a response."""
    return kind("no such thing", response=SimpleNamespace(headers={}, request=None, status_code=404))


@pytest.mark.parametrize("kind", ["RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError"])
@pytest.mark.parametrize(("of", "expected"), [("model", ModelError), ("dataset", DataError)])
def test_what_the_hub_does_not_have(monkeypatch: pytest.MonkeyPatch, kind: str, of: Any, expected: type[CompressError]) -> None:
    failing(monkeypatch, response_error(getattr(errors, kind)))
    with pytest.raises(expected, match=rf"the hub has no {of} owner/name@v1") as caught:
        hub.snapshot("owner/name", of, "v1", ["*"])
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("name", ["owner/na..me", "owner/-", "-x/y", "owner/" + "x" * 200])
def test_names_that_the_hub_refuses(name: str) -> None:
    with pytest.raises(ModelError, match="the hub has no model"):
        hub.snapshot(name, "model", None, ["*"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "No space left"),
        (TimeoutError("timed out"), "timed out"),
        (ConnectionError(), "ConnectionError"),
    ],
)
def test_other_failures_are_resources(monkeypatch: pytest.MonkeyPatch, error: Exception, message: str) -> None:
    failing(monkeypatch, error)
    with pytest.raises(ResourceError, match=message) as caught:
        hub.snapshot("owner/name", "model", None, ["*"])
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(("offline", "message"), [(True, "^offline, and"), (False, "^cannot reach the hub")])
def test_offline_and_unreachable_are_told_apart(monkeypatch: pytest.MonkeyPatch, offline: bool, message: str) -> None:
    failing(monkeypatch, errors.LocalEntryNotFoundError("not cached"))
    monkeypatch.setattr(hub, "is_offline", lambda: offline)
    with pytest.raises(ResourceError, match=message):
        hub.snapshot("owner/name", "dataset", None, ["*"])


def test_offline_with_a_cold_cache_fails_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cold"))
    import huggingface_hub  # noqa: F401 (its import is not what is timed)

    started = time.monotonic()
    with pytest.raises(ResourceError, match="not in the cache"):
        hub.snapshot("owner/name", "dataset", None, ["*.parquet"])
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("true", True), ("ON", True), ("yes", True), ("0", False), ("", False), ("no", False)]
)
def test_the_environment_forbids_the_network(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert hub.is_offline() is expected
    hub.set_offline(True)
    assert hub.is_offline()


def test_offline_is_handed_to_the_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **kwargs: seen.append(kwargs) or str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert hub.snapshot("owner/name", "dataset", "v2", ["a*"]) == tmp_path
    hub.set_offline(True)
    hub.snapshot("owner/name", "model", None, ["b*"])
    assert [entry["local_files_only"] for entry in seen] == [False, True]
    assert (seen[0]["repo_type"], seen[0]["revision"], seen[0]["allow_patterns"]) == ("dataset", "v2", ["a*"])
