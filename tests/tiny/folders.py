"""Folders that many tests write: each is made once, and its bytes are written again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

P = ParamSpec("P")


def written_once(write: Callable[Concatenate[Path, P], Path]) -> Callable[Concatenate[Path, P], Path]:
    """Decorate a function that writes a folder: called again with the same arguments, it writes the same bytes without making them."""
    folders: dict[str, dict[str, bytes]] = {}

    @wraps(write)
    def copy(folder: Path, *args: P.args, **options: P.kwargs) -> Path:
        key = json.dumps([args, options])
        if key not in folders:
            with tempfile.TemporaryDirectory() as scratch:
                written = write(Path(scratch), *args, **options)
                folders[key] = {str(path.relative_to(written)): path.read_bytes() for path in written.rglob("*") if path.is_file()}
        for name, contents in folders[key].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(contents)
        return folder

    return copy
