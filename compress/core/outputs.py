"""Output folders and files: which ones are allowed, and where an interrupted run keeps its state."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from compress.core.artifacts import read_manifest
from compress.core.errors import UsageError
from compress.core.files import followed, remove_leftovers


def check_output(target: Path, sources: list[Path]) -> None:
    """Refuse an output that is a file, lies inside one of the inputs, or would replace a folder that holds one.

    Raises:
        UsageError: the output is one of these.
    """
    resolved = target.resolve()
    if resolved.exists() and not resolved.is_dir():
        raise UsageError(f"the output {target} is a file", "choose a folder with -o")
    for source in sources:
        if resolved == source.resolve() or source.resolve() in resolved.parents:
            raise UsageError(f"the output {target} lies inside the input {source}", "choose another folder with -o")
        if resolved in source.resolve().parents and resolved.exists() and read_manifest(resolved) is not None:
            raise UsageError(f"the output {target} holds the input {source}", "choose another folder with -o")


def check_output_file(target: Path) -> None:
    """Refuse a file that cannot be written, before any work.

    Raises:
        UsageError: it is a folder, or its folder does not exist or may not be written.
    """
    path = target.absolute()
    if path.is_dir() or not path.parent.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise unwritable(target)


def unwritable(target: Path, error: OSError | None = None) -> UsageError:
    """Return the error for a file that cannot be written, with the system's reason."""
    reason = f": {error.strerror}" if error and error.strerror else ""
    return UsageError(f"{target} cannot be written{reason}", "name a file in a folder that exists and may be written")


def resume_folder(target: Path, key: str) -> Path:
    """Return the folder next to `target` with the state that an interrupted run of this cache key resumes from.

    It may not exist yet. Folders of other keys are removed (with an empty key, all of them). The caller holds the lock of `target`, and
    removes the folder at the end.
    """
    folder = target.with_name(f".{target.name}.resume-{key[:32]}")
    for other in target.parent.glob(f".{glob.escape(target.name)}.resume-*"):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return folder


def clean_up(target: Path) -> None:
    """Remove files that killed runs left next to a finished output. The caller holds the lock of `target`."""
    remove_leftovers(followed(target))
    resume_folder(target, "")


def check_content(output: Path, marks: Collection[str], other: str) -> None:
    """Refuse a folder that is not empty and was not written by this command.

    Args:
        output: the folder.
        marks: names of files; every folder that this command has started to write contains at least one.
        other: what is wrong with other folders; completes the message "is not empty and ...".

    Raises:
        UsageError: the folder has none of the marks. The temporary file of a mark whose writer was killed counts as the mark.
    """
    if not output.is_dir() or any((output / mark).is_file() for mark in marks):
        return
    begun = tuple(f".{mark}.tmp-" for mark in marks)
    if any(not path.name.startswith(begun) for path in output.iterdir()):
        raise UsageError(f"{output} is not empty and {other}", "choose another folder with -o")


def nameable(output: Path) -> Path:
    """Resolve an output folder whose name cannot be extended to name its siblings: `.`, `..`, a symbolic link.

    Raises:
        UsageError: a name that no folder can have.
    """
    if "\0" in str(output):
        raise UsageError(f"{str(output)!r} cannot be the name of a folder", "choose another folder with -o")
    return output.resolve() if output.name in {"", ".."} or output.is_symlink() else output
