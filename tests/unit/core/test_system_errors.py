"""Failures of the system, however a library reports them."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

import pytest

from compress.core.errors import DataError, Diverged, ModelError, ResourceError, UsageError
from compress.core.system_errors import resource_errno, typed, typed_errors


class SafetensorError(Exception):
    """As the library's."""


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (Exception("No space left on device (os error 28)"), errno.ENOSPC),
        (SafetensorError("Error while serializing: I/O error: File too large (os error 27)"), errno.EFBIG),
        (RuntimeError("[enforce fail at inline_container.cc:659] . PytorchStreamWriter failed: No space left on device"), errno.ENOSPC),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), errno.ENOSPC),
        (OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"), errno.ENOSPC),
        (RuntimeError("std::bad_alloc"), errno.ENOMEM),
        (MemoryError(), errno.ENOMEM),
        (ValueError("text is wrong (os error 2)"), None),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), None),
        (KeyError("x"), None),
        (None, None),
    ],
)
def test_the_error_of_the_system_is_found(error: Exception | None, number: int | None) -> None:
    assert resource_errno(error) == number


def test_an_error_with_such_a_cause_is_one_of_resources() -> None:
    with pytest.raises(ResourceError, match=r"model\.onnx cannot be read: No space left") as caught, typed_errors():
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise ModelError("model.onnx cannot be read: No space left on device") from error
    assert "free some disk space" in str(caught.value.hint)


@pytest.mark.parametrize("error", [DataError("x"), Diverged("x"), ResourceError("x"), KeyError("x"), RuntimeError("x")])
def test_other_errors_stay(error: Exception) -> None:
    assert typed(error) is None
    with pytest.raises(type(error)) as caught, typed_errors():
        raise error
    assert caught.value is error


def test_a_name_that_is_not_utf8_is_named() -> None:
    with pytest.raises(UsageError, match=r"\\udcff") as caught, typed_errors():
        "a\udcff".encode()
    assert caught.value.exit_code == 2


def test_temporary_files_and_caches_without_permission_are_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    denied = [
        PermissionError(errno.EACCES, "Permission denied", str(folder / "x"))
        for folder in (Path(tempfile.gettempdir()), tmp_path / "cache")
    ]
    for cause in denied:
        error = DataError("train.parquet cannot be read: Permission denied")
        error.__cause__ = cause
        found = typed(error)
        assert isinstance(found, ResourceError)
        assert "TMPDIR" in str(found.hint)


def test_a_file_of_the_users_without_permission_stays_an_error_of_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    error = DataError("train.parquet cannot be read: Permission denied")
    error.__cause__ = PermissionError(errno.EACCES, "Permission denied", "/data/train.parquet")
    assert typed(error) is None


def test_any_error_of_the_system_in_a_library_is_one_of_resources() -> None:
    found = typed(Exception("Permission denied (os error 13)"))
    assert isinstance(found, ResourceError)
    assert "permissions" in str(found.hint)
