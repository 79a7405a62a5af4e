"""The manifest of an artifact: the file that is written last, so that a folder without it is incomplete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress.core.digests import digest_file
from compress.core.files import read_json

MANIFEST = "compress.json"
CARD = "README.md"  # the model card: not covered by the manifest, because the owner of the model edits it


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of an artifact, or None if it is missing or cannot be read."""
    try:
        document = read_json(folder / MANIFEST)
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def digest_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below `folder` by its relative name, sorted; without the manifest, the card and hidden files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    relative = [(path, path.relative_to(folder)) for path in files]
    return {
        name.as_posix(): digest_file(path)
        for path, name in relative
        if name.as_posix() not in (MANIFEST, CARD) and not any(part.startswith(".") for part in name.parts)
    }
