"""Failures that a user can do something about, each with its exit code and a hint.

Exit codes: 0 done; 1 a bug of ours; 2 usage; 3 recipe or task file; 4 model or data; 5 resources;
6 a gate was missed; 7 training diverged; 75 the folder is locked; 130/143 signals.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable


class CompressError(Exception):
    """A failure with a message (what, and where) and a `hint` (what to do next)."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Callable[..., CompressError], tuple[type[CompressError], dict[str, object]]]:
        """Pickle by attributes: an error with more arguments than its message comes from another process, too."""
        return _unpickled, (type(self), self.__dict__)


def _unpickled(kind: type[CompressError], attributes: dict[str, object]) -> CompressError:
    error = kind.__new__(kind, attributes["message"])
    error.__dict__.update(attributes)
    return error


class UsageError(CompressError):
    """Options or arguments that are wrong or do not go together."""

    exit_code = 2


class RecipeError(CompressError):
    """A recipe or a task file is malformed."""

    exit_code = 3


class ModelError(CompressError):
    """A model folder is missing, damaged, unsafe or of an unsupported architecture."""

    exit_code = 4


class DataError(CompressError):
    """The data is missing or empty, or does not fit the task or the model."""

    exit_code = 4


class ResourceError(CompressError):
    """A resource is missing: a GPU, disk space, a package, the network."""

    exit_code = 5


class GateMissed(CompressError):
    """The result misses a gate that the user set; `document` is the manifest of the run, if there is one."""

    exit_code = 6

    def __init__(self, message: str, hint: str | None = None, document: dict[str, object] | None = None) -> None:
        super().__init__(message, hint)
        self.document = document or {}


class PointsFailed(CompressError):
    """Some points of a sweep failed; `exit_code` is that of the first failure, `document` describes the whole sweep."""

    def __init__(self, message: str, hint: str | None, exit_code: int, document: dict[str, object]) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code
        self.document = document


class Diverged(CompressError):
    """Training diverged: a loss or gradient is not finite."""

    exit_code = 7


class Stopped(KeyboardInterrupt):
    """Ctrl-C ended a search early, and its best answer so far was delivered; `document` is what the search returns."""

    def __init__(self, document: dict[str, object]) -> None:
        super().__init__()
        self.document = document


class Locked(CompressError):
    """Another process holds the lock of the output folder."""

    exit_code = 75


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest of `known`, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
