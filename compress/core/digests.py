"""SHA-256 digests of bytes, JSON documents and files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data`, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest_json(document: object) -> str:
    """Return the SHA-256 of a JSON document in canonical form (sorted keys, no spaces)."""
    return digest_bytes(json.dumps(document, sort_keys=True, separators=(",", ":"), default=str).encode())


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's contents, read as a stream."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
