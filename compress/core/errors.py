"""Every failure that a user can cause, with its exit code and the next thing to type.

Exit codes: 0 done; 1 a bug of ours; 2 usage; 3 recipe or task file; 4 model or data; 5 resources;
6 a gate was missed; 7 training diverged; 75 the folder is locked; 130/143 signals.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class CompressError(Exception):
    """A failure with one clear message: what and where, then `hint`, what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CompressError):
    """The command line or the arguments of an API call do not make sense together."""

    exit_code = 2


class RecipeError(CompressError):
    """A recipe or a task file is malformed."""

    exit_code = 3


class ModelError(CompressError):
    """A model folder is missing, damaged, unsafe or of an unsupported architecture."""

    exit_code = 4


class DataError(CompressError):
    """The data is missing, empty, or disagrees with the task or the model."""

    exit_code = 4


class ResourceError(CompressError):
    """The machine lacks something: a GPU, disk space, a package, the network."""

    exit_code = 5


class GateMissed(CompressError):
    """The result is real but misses a gate that the user set; `document` is the run's manifest where there is one."""

    exit_code = 6

    def __init__(self, message: str, hint: str | None = None, document: dict[str, Any] | None = None) -> None:
        super().__init__(message, hint)
        self.document = document or {}


class Diverged(CompressError):
    """Training produced a loss that is not finite."""

    exit_code = 7


class Locked(CompressError):
    """Another run holds the output folder."""

    exit_code = 75


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest of `known`, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""
